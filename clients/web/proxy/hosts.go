package main

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// allowHosts returns a handler that refuses requests for other hosts: a page of another
// site can give its own name this address (DNS rebinding).
func allowHosts(hosts []string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked := (&url.URL{Host: r.Host}).Hostname() // without port and brackets
		isAsked := func(host string) bool { return strings.EqualFold(host, asked) }
		if slices.ContainsFunc(hosts, isAsked) {
			next.ServeHTTP(w, r)
		} else {
			http.Error(w, "this host isn't served; -host adds one", http.StatusMisdirectedRequest)
		}
	})
}
