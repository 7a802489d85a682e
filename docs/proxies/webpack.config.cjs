// webpack's development server before a server. internal/proxies tests this file, with other ports.

module.exports = {
  devServer: {
    // Its own WebSocket is at /ws by default, where it would take the place of yours.
    webSocketServer: { type: 'ws', options: { path: '/webpack' } },
    proxy: [
      // Not changeOrigin: the host of the page has to arrive, or WebSockets are refused with 403.
      { context: ['/events'], target: 'http://127.0.0.1:9001' },
      { context: ['/ws'], target: 'http://127.0.0.1:9001', ws: true },
    ],
  },
};
