// Command getrun asks a HealthOmics gateway for one run. It prints the run's
// status and log streams, or the error.
//
// The exit code is 0 for an answer, 1 if the call failed and 2 on bad usage.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // the health checks that the service config asks for
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	healthomicsv1 "healthomics-gateway/clients/go/gen/healthomics/v1"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(arguments []string, out, errOut io.Writer) int {
	flags := flag.NewFlagSet("getrun", flag.ContinueOnError)
	flags.SetOutput(errOut)
	address := flags.String("address", "127.0.0.1:50051", "the gateway's `HOST:PORT`")
	id := flags.String("id", "", "the run's `ID`, 1 to 18 digits")
	deadline := flags.Duration("deadline", 5*time.Second, "how long the call may take, retries included")
	requestID := flags.String("request-id", "", "the call's `ID` in logs: 1 to 64 of A-Za-z0-9._- (default: the gateway makes one up)")
	serviceConfig := flags.String("service-config", "../service-config.json", "the gRPC service config, a `FILE`")
	if err := flags.Parse(arguments); err != nil {
		return 2
	}

	connection, err := connect(*address, *serviceConfig)
	if err != nil {
		fmt.Fprintln(errOut, err)
		return 2
	}
	defer connection.Close()

	ctx := context.Background()
	if *requestID != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "x-request-id", *requestID)
	}
	answer, trailer, err := getRun(ctx, connection, *id, *deadline)
	if err != nil {
		printFailure(errOut, err, trailer)
		return 1
	}
	printRun(out, answer, trailer)
	return 0
}

// connect returns a channel that uses the service config in the file. The
// channel connects at the first call.
func connect(address, serviceConfig string) (*grpc.ClientConn, error) {
	config, err := os.ReadFile(serviceConfig)
	if err != nil {
		return nil, fmt.Errorf("reading the service config: %w", err)
	}
	return grpc.NewClient(address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(string(config)))
}

// getRun asks for one run, within the deadline. It returns the trailer with an
// error too.
func getRun(
	ctx context.Context, connection grpc.ClientConnInterface, id string, deadline time.Duration,
) (*healthomicsv1.Run, metadata.MD, error) {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	var trailer metadata.MD
	answer, err := healthomicsv1.NewRunServiceClient(connection).
		GetRun(ctx, &healthomicsv1.GetRunRequest{Id: id}, grpc.Trailer(&trailer))
	return answer, trailer, err
}

func printRun(out io.Writer, answer *healthomicsv1.Run, trailer metadata.MD) {
	logs := answer.GetLogLocation()
	fmt.Fprintln(out, "status:", statusOf(answer))
	fmt.Fprintln(out, "engine log stream:", orNone(logs.GetEngineLogStream()))
	fmt.Fprintln(out, "run log stream:", orNone(logs.GetRunLogStream()))
	fmt.Fprintln(out, "observed:", answer.GetObserveTime().AsTime().Format(time.RFC3339Nano))
	printTrailer(out, trailer)
}

// statusOf returns AWS's word for the run's status, even if it is newer than
// this client's stubs.
func statusOf(answer *healthomicsv1.Run) string {
	if unmodeled, ok := answer.GetUnmodeledJson()["status"]; ok {
		return unmodeled
	}
	return strings.TrimPrefix(answer.GetStatus().String(), "RUN_STATUS_")
}

func printFailure(out io.Writer, err error, trailer metadata.MD) {
	failure := status.Convert(err)
	fmt.Fprintf(out, "code: %s\nmessage: %s\n", failure.Code(), failure.Message())
	for _, detail := range failure.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			fmt.Fprintf(out, "reason: %s (%s)\n", detail.Reason, detail.Domain)
			for _, key := range slices.Sorted(maps.Keys(detail.Metadata)) {
				fmt.Fprintf(out, "  %s: %s\n", key, detail.Metadata[key])
			}
		case *errdetails.RetryInfo:
			fmt.Fprintln(out, "retry after:", detail.RetryDelay.AsDuration())
		case *errdetails.BadRequest:
			for _, violation := range detail.FieldViolations {
				fmt.Fprintf(out, "field %s: %s\n", violation.Field, violation.Description)
			}
		case *errdetails.RequestInfo:
			fmt.Fprintln(out, "request id:", detail.RequestId)
		}
	}
	printTrailer(out, trailer)
}

func printTrailer(out io.Writer, trailer metadata.MD) {
	for _, key := range []string{"x-request-id", "x-amzn-requestid"} {
		fmt.Fprintf(out, "trailer %s: %s\n", key, orNone(strings.Join(trailer.Get(key), ", ")))
	}
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}
