package client

import (
	"cmp"
	"context"
	"errors"
	"io"
	"iter"
	"math/rand/v2"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "example.com/runs/gen/healthomics/v1"
)

const (
	maxRetries = 10                    // in a row, without any response
	minDelay   = 50 * time.Millisecond // of a wait: the gateway's are within a minute
	maxDelay   = time.Hour
)

// WatchRun yields the states of a run until its end. If a stream breaks, it opens
// another. A final error is the last value.
func WatchRun(ctx context.Context, runs pb.RunServiceClient, request *pb.WatchRunRequest) iter.Seq2[*pb.Run, error] {
	return func(yield func(*pb.Run, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel() // if the loop ends early
		request = proto.CloneOf(request)
		for failures := 0; ; failures++ {
			stream, err := runs.WatchRun(ctx, request)
			for err == nil {
				var response *pb.WatchRunResponse
				if response, err = stream.Recv(); err != nil {
					break
				}
				failures = 0
				if run := response.GetRun(); run != nil { // else it is a heartbeat
					// To watch only this run again; a read mask may leave it out
					request.Uuid = cmp.Or(run.GetUuid(), request.Uuid)
					if !yield(run, nil) {
						return
					}
				}
			}
			if errors.Is(err, io.EOF) {
				return
			}
			wait, retry := retryDelay(err, failures)
			if !retry || failures == maxRetries || !pause(ctx, wait) { // RetryInfo's delay, or the back-off
				if ctx.Err() != nil {
					err = status.FromContextError(ctx.Err()).Err()
				}
				yield(nil, err)
				return
			}
		}
	}
}

// pause waits until the next stream, unless ctx is cancelled. It returns false at once if
// the deadline would pass.
func pause(ctx context.Context, wait time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < wait {
		return false
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(wait):
		return ctx.Err() == nil
	}
}

// retryDelay returns the wait until the next stream, and whether there is one.
func retryDelay(err error, failures int) (time.Duration, bool) {
	if retry, ok := Detail[*errdetails.RetryInfo](err); ok {
		return min(max(retry.RetryDelay.AsDuration(), minDelay), maxDelay), true
	}
	_, final := Detail[*errdetails.ErrorInfo](err) // a gateway's error
	switch status.Code(err) {
	// Without a gateway's details, these codes mean that the stream was cut on its way.
	case codes.Unavailable, codes.Internal, codes.Unknown, codes.Canceled, codes.DeadlineExceeded:
		backoff := min(500*time.Millisecond<<failures, 30*time.Second)
		return backoff*4/5 + rand.N(backoff*2/5), !final
	}
	return 0, false
}
