// Command watchrun watches a run of a HealthOmics gateway to its end, also if
// streams are cut, and prints each status of the run.
//
// The exit code is 0 if the run has ended, 1 if the watch failed and 2 on bad usage.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	healthomicsv1 "healthomics-gateway/clients/go/gen/healthomics/v1"
)

const maxFailures = 10 // consecutive, without any response

// cut are the codes that mean, without a gateway's details, that the stream was
// cut on its way.
var cut = []codes.Code{
	codes.Unavailable, codes.Internal, codes.Unknown, codes.Canceled, codes.DeadlineExceeded,
}

func main() {
	address := flag.String("address", "127.0.0.1:50051", "the gateway's `HOST:PORT`")
	id := flag.String("id", "", "the run's `ID`, 1 to 18 digits")
	ca := flag.String("tls-ca", "", "connect over TLS with the authorities in this `FILE`")
	flag.Parse()
	connection, err := connect(*address, *ca)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	defer connection.Close()
	err = watch(context.Background(), connection, *id, func(state *healthomicsv1.Run) {
		fmt.Println("status:", state.GetStatus())
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func connect(address, ca string, options ...grpc.DialOption) (*grpc.ClientConn, error) {
	transport := insecure.NewCredentials()
	if ca != "" {
		var err error
		if transport, err = credentials.NewClientTLSFromFile(ca, ""); err != nil {
			return nil, fmt.Errorf("reading the authorities: %w", err)
		}
	}
	return grpc.NewClient(address, append(options, grpc.WithTransportCredentials(transport))...)
}

// watch calls show with each state of a run until the run has ended. If a stream
// breaks, it watches again.
func watch(
	ctx context.Context, connection grpc.ClientConnInterface, id string,
	show func(*healthomicsv1.Run),
) error {
	client := healthomicsv1.NewRunServiceClient(connection)
	request := &healthomicsv1.WatchRunRequest{Id: id}
	for failures := 0; ; failures++ {
		stream, err := client.WatchRun(ctx, request)
		for err == nil {
			var response *healthomicsv1.WatchRunResponse
			if response, err = stream.Recv(); err == nil {
				failures = 0
				request.Uuid = response.GetRun().GetUuid() // resumes this run only
				show(response.GetRun())
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		wait, retry := retryDelay(err, failures)
		if !retry || failures == maxFailures || ctx.Err() != nil {
			return err
		}
		time.Sleep(wait) // RetryInfo's delay, or the back-off
	}
}

// retryDelay returns the wait before the next attempt, and whether there is one.
func retryDelay(err error, failures int) (time.Duration, bool) {
	failure := status.Convert(err)
	for _, detail := range failure.Details() {
		if retry, ok := detail.(*errdetails.RetryInfo); ok {
			return retry.RetryDelay.AsDuration(), true
		}
	}
	if len(failure.Details()) > 0 { // a gateway answered, and its error is final
		return 0, false
	}
	backoff := min(500*time.Millisecond<<failures, 30*time.Second)
	jitter := time.Duration(rand.Int64N(int64(backoff)/5 + 1))
	return backoff + jitter, slices.Contains(cut, failure.Code())
}
