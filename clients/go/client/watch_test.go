package client

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// The wait after a cut stream grows with each failure, up to half a minute and jitter.
func TestRetryDelayGrows(t *testing.T) {
	var before time.Duration
	for failures := range maxRetries {
		wait, retry := retryDelay(status.Error(codes.Unavailable, "cut"), failures)
		if !retry || wait > 36*time.Second || (failures < 6 && wait <= before) {
			t.Errorf("after %d failures: %v, %v", failures, wait, retry)
		}
		before = wait
	}
}

// An error of another code, without details, is final.
func TestRetryDelayOfAFinalError(t *testing.T) {
	if wait, retry := retryDelay(status.Error(codes.NotFound, "no"), 0); retry {
		t.Errorf("NotFound is retried after %v", wait)
	}
}
