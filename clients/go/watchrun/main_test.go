// These tests call a gateway whose upstream is a sandbox. `make clients` starts
// both, with streams of a few seconds, and sets GATEWAY_ADDRESS.
package main

import (
	"context"
	"os"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	healthomicsv1 "healthomics-gateway/clients/go/gen/healthomics/v1"
)

const patience = 90 * time.Second // a run takes half a minute

// A run is watched to its end over several streams, and no state comes twice
// in a row but for those with which a stream begins.
func TestWatchFollowsARunToItsEnd(t *testing.T) {
	streams := 0
	connection := gateway(t, grpc.WithStreamInterceptor(func(
		ctx context.Context, description *grpc.StreamDesc, connection *grpc.ClientConn,
		method string, streamer grpc.Streamer, options ...grpc.CallOption,
	) (grpc.ClientStream, error) {
		streams++
		return streamer(ctx, description, connection, method, options...)
	}))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var seen []healthomicsv1.RunStatus
	err := watch(ctx, connection, "2000003", func(run *healthomicsv1.Run) {
		seen = append(seen, run.GetStatus())
	})
	if err != nil {
		t.Fatal(err)
	}
	if last := seen[len(seen)-1]; last != healthomicsv1.RunStatus_RUN_STATUS_COMPLETED {
		t.Errorf("the last status is %v, not COMPLETED", last)
	}
	if streams < 2 {
		t.Errorf("%d streams, not several", streams)
	}
	if !slices.IsSorted(seen) {
		t.Errorf("the statuses aren't in order: %v", seen)
	}
}

// An error whose advice is to stop ends the watch at once.
func TestWatchEndsWithAFinalError(t *testing.T) {
	err := watch(t.Context(), gateway(t), "9000404", func(*healthomicsv1.Run) {})
	if status.Code(err) != codes.NotFound {
		t.Errorf("the error is %v, not NotFound", err)
	}
}

// A cut stream is started again with a longer wait each time, up to a limit.
func TestRetryDelayGrows(t *testing.T) {
	var before time.Duration
	for failures := range 6 {
		wait, retry := retryDelay(status.Error(codes.Unavailable, "cut"), failures)
		if !retry || wait <= before || wait > 36*time.Second {
			t.Errorf("after %d failures: %v, %v", failures, wait, retry)
		}
		before = wait
	}
}

func gateway(t *testing.T, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	address := os.Getenv("GATEWAY_ADDRESS")
	if address == "" {
		t.Fatal("GATEWAY_ADDRESS isn't set; `make clients` sets it")
	}
	connection, err := connect(address, "", options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.Close() })
	return connection
}
