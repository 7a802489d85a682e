// Package proxies tests streams through nginx, haproxy and Caddy: real ones, on loopback,
// with the configurations in docs/proxies that docs/proxies.md recommends.
//
// It has nothing but tests. One is skipped where its proxy is not installed:
//
//	apt-get install nginx haproxy caddy
package proxies
