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
	Cases   []listed
}

type server struct{ Address, ServiceConfig, TLSCa, TokenFile string }

type listed struct {
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

type ran struct {
	Case   string `json:"case"`
	Run    []byte `json:"run"`
	Status string `json:"status"`
}

type ended struct {
	Case     string              `json:"case"`
	Code     string              `json:"code"`
	Error    *failure            `json:"error"`
	Trailers map[string][]string `json:"trailers,omitempty"`
}

func main() {
	var read document
	if err := json.NewDecoder(os.Stdin).Decode(&read); err != nil {
		log.Fatal(err)
	}
	for _, each := range read.Cases {
		connection := connect(read.Servers[each.Server])
		run(pb.NewRunServiceClient(connection), each)
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

func run(runs pb.RunServiceClient, each listed) {
	ctx := metadata.AppendToOutgoingContext(context.Background(), "x-request-id", each.RequestID)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if each.CancelAfterSeconds > 0 {
		time.AfterFunc(seconds(each.CancelAfterSeconds), cancel)
	}
	deadline := long
	if each.DeadlineSeconds > 0 {
		deadline = seconds(each.DeadlineSeconds)
	}
	if each.Method == "GetRun" {
		var trailer metadata.MD
		run, err := client.GetRun(ctx, runs, getRequest(each), deadline, grpc.Trailer(&trailer))
		if err == nil {
			report(run, each)
		}
		end(each, err, trailer)
		return
	}
	ctx, cancelDeadline := context.WithTimeout(ctx, deadline)
	defer cancelDeadline()
	var failed error
	states := 0
	request := &pb.WatchRunRequest{Id: each.Request.ID, Uuid: each.Request.UUID, ReadMask: mask(each)}
	if heartbeat := each.Request.HeartbeatSeconds; heartbeat > 0 {
		request.HeartbeatInterval = &durationpb.Duration{Seconds: heartbeat}
	}
	for run, err := range client.WatchRun(ctx, runs, request) {
		if failed = err; err == nil {
			report(run, each)
			if states++; states == each.CancelAfterStates {
				cancel()
			}
		}
	}
	end(each, failed, nil)
}

func seconds(number float64) time.Duration {
	return time.Duration(number * float64(time.Second))
}

func getRequest(each listed) *pb.GetRunRequest {
	request := &pb.GetRunRequest{Id: each.Request.ID, ReadMask: mask(each)}
	for _, name := range each.Request.Export {
		request.Export = append(request.Export, pb.RunExport(pb.RunExport_value["RUN_EXPORT_"+name]))
	}
	if staleness := each.Request.MaxStalenessSeconds; staleness != nil {
		request.MaxStaleness = &durationpb.Duration{Seconds: *staleness}
	}
	return request
}

func mask(each listed) *fieldmaskpb.FieldMask {
	if each.Request.Paths == nil {
		return nil
	}
	return &fieldmaskpb.FieldMask{Paths: each.Request.Paths}
}

func report(run *pb.Run, each listed) {
	encoded, err := proto.Marshal(run)
	if err != nil {
		log.Fatal(err)
	}
	write(ran{Case: each.Name, Run: encoded, Status: client.StatusOf(run)})
}

func end(each listed, err error, trailer metadata.MD) {
	ended := ended{Case: each.Name, Code: code.Code(status.Code(err)).String(), Error: explain(err)}
	if each.Method == "GetRun" {
		ended.Trailers = map[string][]string{
			"x-request-id":     trailer.Get("x-request-id"),
			"x-amzn-requestid": trailer.Get("x-amzn-requestid"),
		}
	}
	write(ended)
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
