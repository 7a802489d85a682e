// The server process of the peer Bun: uWebSockets, with its own publish for WebSockets. Event
// streams are written one after the other. It obeys the orders of serve.go.
const wire = process.argv[2];
const streams = new Set();
const server = Bun.serve({
  port: 0,
  hostname: "127.0.0.1",
  idleTimeout: 0,
  fetch(request, server) {
    if (wire === "ws") return server.upgrade(request) ? undefined : new Response("", { status: 400 });
    let own;
    return new Response(
      new ReadableStream({
        type: "direct",
        pull(controller) {
          own = controller;
          streams.add(own);
          controller.write(":\n");
          controller.flush();
          return new Promise(() => {}); // it stays open
        },
        cancel() {
          streams.delete(own);
        },
      }),
      { headers: { "Content-Type": "text/event-stream" } },
    );
  },
  websocket: {
    idleTimeout: 0,
    open(socket) {
      socket.subscribe("a");
    },
    message() {},
  },
});

function publish(text) {
  if (wire === "ws") {
    server.publish("a", text);
    return;
  }
  const event = "data: " + text + "\n\n";
  for (const stream of streams) {
    stream.write(event);
    stream.flush();
  }
}

const nanoseconds = () => BigInt(Math.round((performance.timeOrigin + performance.now()) * 1e6));

async function obey(order) {
  const began = nanoseconds();
  const start = performance.now();
  const due = (i) => Bun.sleep(Math.max(0, start + (i * order.Every) / 1e6 - performance.now()));
  const count = order.Publish ?? 0;
  for (let i = 0; i < count; i++) {
    if (order.Every > 0) await due(i);
    const mark = "@" + nanoseconds().toString(16).padStart(16, "0");
    publish(mark.padEnd(order.Size, "x"));
  }
  if (order.Every > 0) await due(count); // the last one has its time as well
  if (!order.Publish) Bun.gc(true);
  const cpu = process.cpuUsage();
  const memory = process.memoryUsage();
  const usage = { CPU: (cpu.user + cpu.system) * 1000, User: cpu.user * 1000, RSS: memory.rss, Live: memory.heapUsed, Mallocs: 0 };
  process.stdout.write(JSON.stringify(usage).replace("{", `{"Began":${began},`) + "\n");
}

process.stdout.write(`127.0.0.1:${server.port}\n`);
for await (const line of console) if (line) await obey(JSON.parse(line));
process.exit(0);
