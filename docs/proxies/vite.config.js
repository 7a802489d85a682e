// vite's development server before a server. internal/proxies tests this file, with other ports.

export default {
  server: {
    proxy: {
      // Not changeOrigin: the host of the page has to arrive, or WebSockets are refused with 403.
      '/events': { target: 'http://127.0.0.1:9001' },
      '/ws': { target: 'http://127.0.0.1:9001', ws: true },
    },
  },
};
