// These tests call a gateway whose upstream is a sandbox. `make clients` starts
// both and sets GATEWAY_ADDRESS to the gateway's address.
package main

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	healthomicsv1 "healthomics-gateway/clients/go/gen/healthomics/v1"
)

const (
	serviceConfig = "../../service-config.json"
	// patience covers four attempts of this client, each of which the gateway
	// may try three times.
	patience = 25 * time.Second
)

// The status of a run is an enum value.
func TestGetRunAnswersTheStatus(t *testing.T) {
	answer, _, err := getRun(t.Context(), gateway(t), "1000003", patience)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "status", healthomicsv1.RunStatus_RUN_STATUS_RUNNING, answer.GetStatus())
	expect(t, "id", "1000003", answer.GetId())
}

// Every member of the contract, also of nested structures, is set in the
// complete run.
func TestGetRunAnswersEveryMember(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	answer, err := healthomicsv1.NewRunServiceClient(gateway(t)).GetRun(ctx,
		&healthomicsv1.GetRunRequest{
			Id:     "3000001",
			Export: []healthomicsv1.RunExport{healthomicsv1.RunExport_RUN_EXPORT_DEFINITION},
		})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range unset(answer.ProtoReflect()) {
		if name != "healthomics.v1.Run.unmodeled_json" {
			t.Errorf("%s is unset", name)
		}
	}
}

// unset returns the unset fields of the message and of the contract's messages
// inside it.
func unset(message protoreflect.Message) []protoreflect.FullName {
	var names []protoreflect.FullName
	fields := message.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		switch {
		case !message.Has(field):
			names = append(names, field.FullName())
		case !field.IsMap() && !field.IsList() && field.Message() != nil &&
			field.Message().ParentFile().Package() == "healthomics.v1":
			names = append(names, unset(message.Get(field).Message())...)
		}
	}
	return names
}

// Members newer than the contract are JSON text under AWS's names.
func TestGetRunAnswersUnmodeledMembers(t *testing.T) {
	answer, _, err := getRun(t.Context(), gateway(t), "3000002", patience)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "status", healthomicsv1.RunStatus_RUN_STATUS_UNSPECIFIED, answer.GetStatus())
	if _, ok := answer.GetUnmodeledJson()["status"]; !ok || len(answer.GetUnmodeledJson()) < 2 {
		t.Errorf("unmodeled_json lacks the status or another member: %v", answer.GetUnmodeledJson())
	}
}

// Each error of HealthOmics has its code and reason, and a RetryInfo exactly if
// the advice is to retry.
func TestGetRunAnswersTypedErrors(t *testing.T) {
	connection := gateway(t)
	for _, row := range []struct {
		id      string
		code    codes.Code
		reason  string
		advised bool
	}{
		{"9000400", codes.InvalidArgument, "UPSTREAM_VALIDATION", false},
		{"9000402", codes.ResourceExhausted, "UPSTREAM_QUOTA_EXCEEDED", false},
		{"9000403", codes.PermissionDenied, "UPSTREAM_ACCESS_DENIED", false},
		{"9000404", codes.NotFound, "RUN_NOT_FOUND", false},
		{"9000408", codes.Unavailable, "UPSTREAM_TIMEOUT", true},
		{"9000409", codes.FailedPrecondition, "RUN_CONFLICT", false},
		{"9000500", codes.Unavailable, "UPSTREAM_INTERNAL", true},
		{"9000429", codes.ResourceExhausted, "UPSTREAM_THROTTLED", true},
	} {
		t.Run(row.id, func(t *testing.T) {
			_, trailer, err := getRun(t.Context(), connection, row.id, patience)
			expect(t, "code", row.code, status.Code(err))
			info := detail[*errdetails.ErrorInfo](t, err)
			expect(t, "reason", row.reason, info.GetReason())
			expect(t, "domain", "healthomics-gateway", info.GetDomain())
			expect(t, "runId", row.id, info.GetMetadata()["runId"])
			expect(t, "request id", one(t, trailer, "x-request-id"),
				detail[*errdetails.RequestInfo](t, err).GetRequestId())
			one(t, trailer, "x-amzn-requestid")
			waits := details[*errdetails.RetryInfo](err)
			expect(t, "a wait is advised", row.advised, len(waits) == 1)
			for _, wait := range waits {
				delay := wait.GetRetryDelay().AsDuration()
				if delay < 50*time.Millisecond || delay > time.Minute {
					t.Errorf("the advised wait is %s", delay)
				}
			}
		})
	}
}

// The error for a missing run names the run.
func TestGetRunNamesTheMissingRun(t *testing.T) {
	_, _, err := getRun(t.Context(), gateway(t), "9000404", patience)
	missing := detail[*errdetails.ResourceInfo](t, err)
	expect(t, "resource type", "omics.run", missing.GetResourceType())
	expect(t, "resource name", "9000404", missing.GetResourceName())
}

// The error for a malformed id names the field.
func TestGetRunNamesTheFieldAtFault(t *testing.T) {
	_, _, err := getRun(t.Context(), gateway(t), "abc", patience)
	expect(t, "code", codes.InvalidArgument, status.Code(err))
	expect(t, "reason", "INVALID_REQUEST", detail[*errdetails.ErrorInfo](t, err).GetReason())
	violations := detail[*errdetails.BadRequest](t, err).GetFieldViolations()
	if len(violations) != 1 || violations[0].GetField() != "id" {
		t.Errorf("the violations are %v", violations)
	}
}

// An answer's trailers have the ids of the call and of the call to HealthOmics.
func TestGetRunEndsWithTheRequestIDs(t *testing.T) {
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-request-id", "clients.go-1")
	_, trailer, err := getRun(ctx, gateway(t), "1000005", patience)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "x-request-id", "clients.go-1", one(t, trailer, "x-request-id"))
	one(t, trailer, "x-amzn-requestid")
}

// A call ends by its deadline.
func TestGetRunKeepsTheDeadline(t *testing.T) {
	_, _, err := getRun(t.Context(), gateway(t), "1000003", time.Nanosecond)
	expect(t, "code", codes.DeadlineExceeded, status.Code(err))
}

// The program prints a run, and exits 0.
func TestProgramPrintsARun(t *testing.T) {
	exit, out, _ := program(t, "-id", "1000003", "-request-id", "clients.go-2")
	expect(t, "exit", 0, exit)
	expect(t, "first line", "status: RUNNING", strings.SplitN(out, "\n", 2)[0])
	contains(t, out, "run log stream: ")
	contains(t, out, "trailer x-request-id: clients.go-2\n")
}

// The program prints the error, and exits 1.
func TestProgramPrintsAFailure(t *testing.T) {
	exit, _, errOut := program(t, "-id", "9000404", "-request-id", "clients.go-3")
	expect(t, "exit", 1, exit)
	contains(t, errOut, "code: NotFound\n")
	contains(t, errOut, "reason: RUN_NOT_FOUND (healthomics-gateway)\n")
	contains(t, errOut, "  runId: 9000404\n")
	contains(t, errOut, "request id: clients.go-3\n")
}

func program(t *testing.T, arguments ...string) (exit int, out, errOut string) {
	t.Helper()
	var printed, complained strings.Builder
	exit = run(append([]string{
		"-address", address(t), "-service-config", serviceConfig, "-deadline", patience.String(),
	}, arguments...), &printed, &complained)
	return exit, printed.String(), complained.String()
}

func gateway(t *testing.T) *grpc.ClientConn {
	t.Helper()
	connection, err := connect(address(t), serviceConfig)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.Close() })
	return connection
}

func address(t *testing.T) string {
	t.Helper()
	address := os.Getenv("GATEWAY_ADDRESS")
	if address == "" {
		t.Fatal("GATEWAY_ADDRESS is unset: `make clients` starts a gateway and sets it")
	}
	return address
}

// detail returns the error's only detail of this type.
func detail[T proto.Message](t *testing.T, err error) T {
	t.Helper()
	found := details[T](err)
	if len(found) != 1 {
		t.Fatalf("%d details of type %T in %v", len(found), *new(T), err)
	}
	return found[0]
}

// details returns the error's details of this type.
func details[T proto.Message](err error) []T {
	var found []T
	for _, candidate := range status.Convert(err).Details() {
		if match, ok := candidate.(T); ok {
			found = append(found, match)
		}
	}
	return found
}

// one returns the trailer's only value under the key, which must not be empty.
func one(t *testing.T, trailer metadata.MD, key string) string {
	t.Helper()
	values := trailer.Get(key)
	if len(values) != 1 || values[0] == "" {
		t.Fatalf("the trailer's %s is %q", key, values)
	}
	return values[0]
}

func expect[T comparable](t *testing.T, what string, expected, actual T) {
	t.Helper()
	if expected != actual {
		t.Errorf("%s: expected %v, got %v", what, expected, actual)
	}
}

func contains(t *testing.T, text, expected string) {
	t.Helper()
	if !strings.Contains(text, expected) {
		t.Errorf("%q isn't in:\n%s", expected, text)
	}
}
