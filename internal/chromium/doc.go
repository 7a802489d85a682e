// Package chromium tests fanfare.js, the browser's own EventSource and WebSocket, and
// polyfills of other projects in a real browser.
package chromium
