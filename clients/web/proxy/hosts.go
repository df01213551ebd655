package main

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	maxRequest = 64 << 10         // bytes, as at the gateway
	readTime   = 10 * time.Second // for the headers of a request, and for its body
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

// readWhole returns a handler that reads the request before it passes it on, so that a
// client that sends it slowly, or without end, holds nothing for long. It refuses
// compressed requests, which browsers don't send: a small one can become large.
func readWhole(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, name := range []string{"Content-Encoding", "Connect-Content-Encoding", "Grpc-Encoding"} {
			if r.Header.Get(name) != "" {
				http.Error(w, "send the request without compression", http.StatusUnsupportedMediaType)
				return
			}
		}
		connection := http.NewResponseController(w)
		connection.SetReadDeadline(time.Now().Add(readTime))
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
		if err != nil {
			code := http.StatusRequestTimeout
			if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
				code = http.StatusRequestEntityTooLarge
			}
			http.Error(w, "the request couldn't be read", code)
			return
		}
		connection.SetReadDeadline(time.Time{}) // a watch lasts
		r.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(w, r)
	})
}
