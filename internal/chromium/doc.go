// Package chromium tests the browser's end of the kit in a real browser, and other people's.
package chromium
