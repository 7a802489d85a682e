package main

import "strings"

// Most browsers name the browsers that they are compatible with too, so that the order counts.
var (
	browserMarks = [][2]string{{"Edg", "Edge"}, {"OPR/", "Opera"}, {"SamsungBrowser/", "Samsung Internet"}, {"Firefox/", "Firefox"}, {"FxiOS/", "Firefox"},
		{"Chrome/", "Chrome"}, {"CriOS/", "Chrome"}, {"Safari/", "Safari"}}
	systemMarks = [][2]string{{"Android", "Android"}, {"iPhone", "iOS"}, {"iPad", "iOS"}, {"Windows", "Windows"}, {"Mac OS X", "macOS"}, {"CrOS", "ChromeOS"}, {"Linux", "Linux"}}
)

// browserName returns what a person calls the browser with a User-Agent: "Chrome on Linux".
func browserName(userAgent string) string {
	named := func(marks [][2]string, otherwise string) string {
		for _, mark := range marks {
			if strings.Contains(userAgent, mark[0]) {
				return mark[1]
			}
		}
		return otherwise
	}
	return named(browserMarks, "A program") + " on " + named(systemMarks, "an unknown system")
}
