// Package client calls a HealthOmics gateway, and watches runs to their end: copy it.
package client

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // the health checks of the service config
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	pb "example.com/runs/gen/healthomics/v1"
)

var validToken = regexp.MustCompile("^[!-~]+$")

// Connect returns a connection with the service config in a file. The options are for
// TLS (credentials.NewClientTLSFromFile) and tokens (grpc.WithPerRPCCredentials).
func Connect(address, serviceConfig string, options ...grpc.DialOption) (*grpc.ClientConn, error) {
	config, err := os.ReadFile(serviceConfig)
	if err != nil {
		return nil, err
	}
	options = append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(string(config)),
		// Finds a dead connection within 80 s, also while a watch is silent.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: time.Minute, Timeout: 20 * time.Second}),
	}, options...)
	return grpc.NewClient(address, options...)
}

// TokenFile is grpc.PerRPCCredentials: it reads the token for each call, as it may be renewed.
type TokenFile string

// Read returns the token. Call it before Connect: without a token the health check fails and
// is tried again, and a call would wait for its deadline.
func (file TokenFile) Read() (string, error) {
	data, err := os.ReadFile(string(file))
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(data))
	if !validToken.MatchString(token) {
		return "", fmt.Errorf("%s: a token has only visible ASCII characters", string(file))
	}
	return token, nil
}

func (file TokenFile) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	token, err := file.Read()
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error()) // it may be being written
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

func (TokenFile) RequireTransportSecurity() bool { return true }

// GetRun asks for a run. The deadline is for all attempts together.
func GetRun(ctx context.Context, runs pb.RunServiceClient, request *pb.GetRunRequest, deadline time.Duration, options ...grpc.CallOption) (*pb.Run, error) {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	return runs.GetRun(ctx, request, options...)
}

// Detail returns the error's detail of a type; an error that no gateway sent has none.
func Detail[T any](err error) (detail T, ok bool) {
	for _, each := range status.Convert(err).Details() {
		if detail, ok = each.(T); ok {
			break
		}
	}
	return detail, ok
}

// StatusOf returns AWS's word for the run's status, even if it is newer than the stubs.
func StatusOf(run *pb.Run) string {
	newer, ok := run.GetUnmodeledJson()["status"]
	if !ok {
		return strings.TrimPrefix(run.GetStatus().String(), "RUN_STATUS_")
	}
	var word string
	if json.Unmarshal([]byte(newer), &word) != nil {
		return newer
	}
	return word
}
