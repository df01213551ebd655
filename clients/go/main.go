// Command runs asks a HealthOmics gateway for a run, or watches it to its end.
//
// The exit code is 0 for an answer, 1 if the call failed and 2 on bad usage.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"example.com/runs/client"
	pb "example.com/runs/gen/healthomics/v1"
)

//go:generate buf generate ../../protos --template ../templates/buf.gen.go.yaml --output gen

func main() {
	flags := flag.NewFlagSet("runs get|watch ID", flag.ExitOnError)
	address := flags.String("address", "127.0.0.1:50051", "the gateway's `HOST:PORT`")
	deadline := flags.Duration("deadline", 5*time.Second, "how long get may take")
	config := flags.String("service-config", "service-config.json", "the service config, a `FILE`")
	ca := flags.String("tls-ca", "", "use TLS, and trust the authorities in this `FILE`")
	token := flags.String("token-file", "", "send the token in this `FILE`; needs -tls-ca")
	if len(os.Args) >= 3 {
		flags.Parse(os.Args[3:])
	}
	if len(os.Args) < 3 || flags.NArg() > 0 || (os.Args[1] != "get" && os.Args[1] != "watch") {
		exitOnUsage(errors.New("write `runs get ID` or `runs watch ID`, then flags; -h after ID lists them"))
	}
	if *deadline <= 0 {
		exitOnUsage(errors.New("-deadline must be more than 0"))
	}
	flags.Visit(func(each *flag.Flag) {
		if each.Value.String() == "" {
			exitOnUsage(fmt.Errorf("-%s is empty", each.Name))
		}
	})

	var options []grpc.DialOption
	if *ca != "" {
		transport, err := credentials.NewClientTLSFromFile(*ca, "")
		exitOnUsage(err)
		options = append(options, grpc.WithTransportCredentials(transport))
	}
	if *token != "" {
		_, err := client.TokenFile(*token).Read()
		exitOnUsage(err)
		options = append(options, grpc.WithPerRPCCredentials(client.TokenFile(*token)))
	}
	connection, err := client.Connect(*address, *config, options...)
	exitOnUsage(err)
	defer connection.Close()

	ctx, runs, id := context.Background(), pb.NewRunServiceClient(connection), os.Args[2]
	if os.Args[1] == "get" {
		run, err := client.GetRun(ctx, runs, &pb.GetRunRequest{Id: id}, *deadline)
		exitOnError(err)
		fmt.Println("status:", client.StatusOf(run))
		return
	}
	for run, err := range client.WatchRun(ctx, runs, &pb.WatchRunRequest{Id: id}) {
		exitOnError(err)
		fmt.Println("status:", client.StatusOf(run))
	}
}

func exitOnUsage(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "runs:", err)
		os.Exit(2)
	}
}

func exitOnError(err error) {
	if err == nil {
		return
	}
	failure := status.Convert(err)
	fmt.Fprintf(os.Stderr, "%s: %s\n", code.Code(failure.Code()), failure.Message())
	if info, ok := client.Detail[*errdetails.ErrorInfo](err); ok {
		fmt.Fprintln(os.Stderr, "reason:", info.Reason)
	}
	if retry, ok := client.Detail[*errdetails.RetryInfo](err); ok {
		fmt.Fprintln(os.Stderr, "retry after:", retry.RetryDelay.AsDuration().Seconds(), "s")
	}
	if faults, ok := client.Detail[*errdetails.BadRequest](err); ok {
		for _, fault := range faults.FieldViolations {
			fmt.Fprintf(os.Stderr, "field %s: %s\n", fault.Field, fault.Description)
		}
	}
	if request, ok := client.Detail[*errdetails.RequestInfo](err); ok {
		fmt.Fprintln(os.Stderr, "request id:", request.RequestId)
	}
	os.Exit(1)
}
