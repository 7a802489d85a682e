// Package browsers tests fanfare.js, the browser's own EventSource and WebSocket, and
// polyfills of other projects in Chromium, Firefox and WebKit.
package browsers
