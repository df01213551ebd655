// Command conformance runs the cases that it reads from stdin, and prints what each
// of them returned.
package main

import (
	"context"
	"encoding/json"
	"log"
	"maps"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"example.com/runs/client"
	pb "example.com/runs/gen/healthomics/v1"
)

// long is the deadline of a call that has none in the list.
const long = time.Minute

type document struct {
	Servers map[string]server
	Cases   []testCase
}

type server struct{ Address, ServiceConfig, TLSCa, TokenFile string }

type testCase struct {
	Name, Server, Method, RequestID string
	DeadlineSeconds                 float64
	CancelAfterSeconds              float64
	CancelAfterStates               int
	Request                         struct {
		ID, UUID            string
		Export, Paths       []string
		MaxStalenessSeconds *int64
		HeartbeatSeconds    int64
	}
}

type failure struct {
	Message      string            `json:"message"`
	Reason       string            `json:"reason"`
	Domain       string            `json:"domain"`
	Metadata     map[string]string `json:"metadata"`
	RetrySeconds *float64          `json:"retrySeconds"`
	Fields       map[string]string `json:"fields"`
	RequestID    string            `json:"requestId"`
}

type runReport struct {
	Case   string `json:"case"`
	Run    []byte `json:"run"`
	Status string `json:"status"`
}

type endReport struct {
	Case     string              `json:"case"`
	Code     string              `json:"code"`
	Error    *failure            `json:"error"`
	Trailers map[string][]string `json:"trailers,omitempty"`
}

func main() {
	var doc document
	if err := json.NewDecoder(os.Stdin).Decode(&doc); err != nil {
		log.Fatal(err)
	}
	for _, tc := range doc.Cases {
		connection := connect(doc.Servers[tc.Server])
		run(pb.NewRunServiceClient(connection), tc)
		connection.Close()
	}
}

func connect(to server) *grpc.ClientConn {
	var options []grpc.DialOption
	if to.TLSCa != "" {
		transport, err := credentials.NewClientTLSFromFile(to.TLSCa, "")
		if err != nil {
			log.Fatal(err)
		}
		options = append(options, grpc.WithTransportCredentials(transport))
	}
	if to.TokenFile != "" {
		options = append(options, grpc.WithPerRPCCredentials(client.TokenFile(to.TokenFile)))
	}
	connection, err := client.Connect(to.Address, to.ServiceConfig, options...)
	if err != nil {
		log.Fatal(err)
	}
	return connection
}

func run(runs pb.RunServiceClient, tc testCase) {
	ctx := metadata.AppendToOutgoingContext(context.Background(), "x-request-id", tc.RequestID)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if tc.CancelAfterSeconds > 0 {
		time.AfterFunc(seconds(tc.CancelAfterSeconds), cancel)
	}
	deadline := long
	if tc.DeadlineSeconds > 0 {
		deadline = seconds(tc.DeadlineSeconds)
	}
	if tc.Method == "GetRun" {
		var trailer metadata.MD
		run, err := client.GetRun(ctx, runs, getRequest(tc), deadline, grpc.Trailer(&trailer))
		if err == nil {
			report(run, tc)
		}
		end(tc, err, trailer)
		return
	}
	ctx, cancelDeadline := context.WithTimeout(ctx, deadline)
	defer cancelDeadline()
	var failed error
	states := 0
	request := &pb.WatchRunRequest{Id: tc.Request.ID, Uuid: tc.Request.UUID, ReadMask: mask(tc)}
	if heartbeat := tc.Request.HeartbeatSeconds; heartbeat > 0 {
		request.HeartbeatInterval = &durationpb.Duration{Seconds: heartbeat}
	}
	for run, err := range client.WatchRun(ctx, runs, request) {
		if failed = err; err == nil {
			report(run, tc)
			if states++; states == tc.CancelAfterStates {
				cancel()
			}
		}
	}
	end(tc, failed, nil)
}

func seconds(number float64) time.Duration {
	return time.Duration(number * float64(time.Second))
}

func getRequest(tc testCase) *pb.GetRunRequest {
	request := &pb.GetRunRequest{Id: tc.Request.ID, ReadMask: mask(tc)}
	for _, name := range tc.Request.Export {
		request.Export = append(request.Export, pb.RunExport(pb.RunExport_value["RUN_EXPORT_"+name]))
	}
	if staleness := tc.Request.MaxStalenessSeconds; staleness != nil {
		request.MaxStaleness = &durationpb.Duration{Seconds: *staleness}
	}
	return request
}

func mask(tc testCase) *fieldmaskpb.FieldMask {
	if tc.Request.Paths == nil {
		return nil
	}
	return &fieldmaskpb.FieldMask{Paths: tc.Request.Paths}
}

func report(run *pb.Run, tc testCase) {
	encoded, err := proto.Marshal(run)
	if err != nil {
		log.Fatal(err)
	}
	write(runReport{Case: tc.Name, Run: encoded, Status: client.StatusOf(run)})
}

func end(tc testCase, err error, trailer metadata.MD) {
	report := endReport{Case: tc.Name, Code: code.Code(status.Code(err)).String(), Error: explain(err)}
	if tc.Method == "GetRun" {
		report.Trailers = map[string][]string{
			"x-request-id":     trailer.Get("x-request-id"),
			"x-amzn-requestid": trailer.Get("x-amzn-requestid"),
		}
	}
	write(report)
}

func explain(err error) *failure {
	if err == nil {
		return nil
	}
	explained := &failure{Message: status.Convert(err).Message(), Metadata: map[string]string{}, Fields: map[string]string{}}
	if info, ok := client.Detail[*errdetails.ErrorInfo](err); ok {
		explained.Reason, explained.Domain = info.Reason, info.Domain
		maps.Copy(explained.Metadata, info.Metadata)
	}
	if retry, ok := client.Detail[*errdetails.RetryInfo](err); ok {
		wait := retry.RetryDelay.AsDuration().Seconds()
		explained.RetrySeconds = &wait
	}
	if faults, ok := client.Detail[*errdetails.BadRequest](err); ok {
		for _, fault := range faults.FieldViolations {
			explained.Fields[fault.Field] = fault.Description
		}
	}
	if request, ok := client.Detail[*errdetails.RequestInfo](err); ok {
		explained.RequestID = request.RequestId
	}
	return explained
}

func write(line any) {
	if err := json.NewEncoder(os.Stdout).Encode(line); err != nil {
		log.Fatal(err)
	}
}
