// Proxy serves the page, and translates the browser's calls (Connect or
// gRPC-Web over HTTP/1.1) to gRPC for a gateway.
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/vanguard"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

const service = "healthomics.v1.RunService"

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "serve the page on this `address`")
	gateway := flag.String("gateway", "127.0.0.1:50051", "the gateway's `address`, plaintext")
	pages := flag.String("pages", "../dist", "the `folder` of the built page")
	contract := flag.String("contract", "../../../generated/healthomics/v1/descriptor_set.binpb",
		"the contract's descriptor set `file`")
	var hosts []string // without ports
	flag.Func("host", "also serve the page under this `NAME`; repeatable, or with commas", func(names string) error {
		hosts = append(hosts, strings.FieldsFunc(names, func(r rune) bool { return r == ',' })...)
		return nil
	})
	flag.Parse()
	calls, err := translate(*contract, *gateway)
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	host, _, _ := net.SplitHostPort(*listen) // Listen has checked it
	address := listener.Addr().(*net.TCPAddr)
	if !address.IP.IsUnspecified() {
		hosts = append(hosts, host)
	} else if len(hosts) == 0 {
		log.Fatalf("-listen=%s means all addresses of this machine: add -host=NAME, the page's host", *listen)
	}
	mux := http.NewServeMux()
	mux.Handle("/", http.FileServer(http.Dir(*pages)))
	mux.Handle("POST /"+service+"/", readWhole(calls)) // another site's page could send a GET
	log.Printf("serving http://%s/ for the gateway %s", net.JoinHostPort(hosts[0], strconv.Itoa(address.Port)), *gateway)
	server := &http.Server{
		Handler:           allowHosts(append(hosts, "localhost"), mux),
		ReadHeaderTimeout: readTime,
		IdleTimeout:       time.Minute,
	}
	log.Fatal(server.Serve(listener))
}

// translate returns a handler that makes each call of the service on the
// gateway, by gRPC. The contract is the file of a descriptor set.
func translate(contract, gateway string) (http.Handler, error) {
	data, err := os.ReadFile(contract)
	if err != nil {
		return nil, fmt.Errorf("reading the contract: %w", err)
	}
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(data, &set); err != nil {
		return nil, fmt.Errorf("decoding the contract: %w", err)
	}
	files, err := protodesc.NewFiles(&set)
	if err != nil {
		return nil, fmt.Errorf("linking the contract: %w", err)
	}
	found, err := files.FindDescriptorByName(service)
	if err != nil {
		return nil, fmt.Errorf("looking up the service: %w", err)
	}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: gateway})
	proxy.FlushInterval = -1 // send each state of a watch at once
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	proxy.Transport = &http.Transport{Protocols: protocols}
	return vanguard.NewTranscoder([]*vanguard.Service{vanguard.NewServiceWithSchema(
		found.(protoreflect.ServiceDescriptor), proxy,
		vanguard.WithTargetProtocols(vanguard.ProtocolGRPC),
		vanguard.WithTargetCodecs(vanguard.CodecProto),
		vanguard.WithTypeResolver(dynamicpb.NewTypes(files)),
		vanguard.WithMaxMessageBufferBytes(4<<20), // as gRPC's clients
	)})
}
