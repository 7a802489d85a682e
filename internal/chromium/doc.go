// Package chromium tests the browser's end of the kit in a real browser.
package chromium
