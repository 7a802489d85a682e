// Package proxies tests streams through nginx, haproxy and Caddy, which run on loopback with
// the configurations in docs/proxies that docs/proxies.md recommends.
//
// It has only tests. The tests of a proxy that is not installed are skipped:
//
//	apt-get install nginx haproxy caddy
package proxies
