# Varnish 7 before a server. internal/proxies tests this file, with other ports and times.
#
# Start varnishd with -p pipe_timeout=60: it ends a WebSocket that is silent for longer, and
# pings (30 s) stay below it.
vcl 4.1;

backend fanfare {
    .host = "127.0.0.1";
    .port = "9001";

    # How long a stream may be silent. Heartbeats (15 s) stay below it.
    .first_byte_timeout = 60s;
    .between_bytes_timeout = 60s;
}

sub vcl_recv {
    if (req.http.Upgrade ~ "(?i)websocket") {
        return (pipe);
    }
    # A stream belongs to one client. Without this line a second request for the same URL waits
    # until the first one has its header.
    if (req.http.Accept ~ "text/event-stream") {
        return (pass);
    }
}

sub vcl_pipe {
    # Varnish drops these two, without which there is no WebSocket.
    if (req.http.Upgrade) {
        set bereq.http.Upgrade = req.http.Upgrade;
        set bereq.http.Connection = req.http.Connection;
    }
}

sub vcl_backend_response {
    if (beresp.http.Content-Type ~ "^text/event-stream") {
        set beresp.do_stream = true; # the default: what comes is passed on at once
        set beresp.do_gzip = false;
    }
}
