// Calls every method of every public service through clients that protoc-gen-go and protoc-gen-go-grpc
// generated: the methods of their interfaces are found by reflection, so none is forgotten.
//
// usage: clients HOST:PORT CALLS_FILE
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"reflect"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	older "gristmill.example/clients/gen/analytics"
	v1 "gristmill.example/clients/gen/analytics/v1"
)

const patience = 30 * time.Second

type call struct {
	Method   string            `json:"method"`
	Request  json.RawMessage   `json:"request"`
	Requests []json.RawMessage `json:"requests"`
}

func main() {
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(address, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var calls []call
	if err := json.Unmarshal(text, &calls); err != nil {
		return err
	}
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	clients := map[string]any{
		"analytics.ProducerService":          older.NewProducerServiceClient(connection),
		"analytics.ConsumerService":          older.NewConsumerServiceClient(connection),
		"analytics.AnalyticsService":         older.NewAnalyticsServiceClient(connection),
		"analytics.v1.EventIngestionService": v1.NewEventIngestionServiceClient(connection),
		"analytics.v1.AnalyticsService":      v1.NewAnalyticsServiceClient(connection),
		"analytics.v1.MetricsService":        v1.NewMetricsServiceClient(connection),
	}
	uncalled := map[string]bool{}
	for service, client := range clients {
		of := reflect.TypeOf(client)
		for index := range of.NumMethod() {
			uncalled[service+"/"+of.Method(index).Name] = true
		}
	}
	for _, call := range calls {
		var service, name string
		for index := range call.Method {
			if call.Method[index] == '/' {
				service, name = call.Method[:index], call.Method[index+1:]
			}
		}
		method := reflect.ValueOf(clients[service]).MethodByName(name)
		if !method.IsValid() {
			return fmt.Errorf("%s is no method of the generated client", call.Method)
		}
		if err := invoke(method, call); err != nil {
			return fmt.Errorf("%s: %w", call.Method, err)
		}
		delete(uncalled, call.Method)
	}
	if len(uncalled) > 0 {
		return fmt.Errorf("%s has no call of %v", file, uncalled)
	}
	fmt.Printf("go: %d calls answered\n", len(calls))
	return nil
}

// Calls a method of a generated client: unary, or a stream in either direction, of which it takes the
// first answer.
func invoke(method reflect.Value, call call) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	kind := method.Type()
	arguments := []reflect.Value{reflect.ValueOf(ctx)}
	// The options are variadic; what stands before them is the request, if there is one.
	hasRequest := kind.NumIn() == 3
	if hasRequest {
		request, err := message(kind.In(1), call.Request)
		if err != nil {
			return err
		}
		arguments = append(arguments, request)
	}
	answers := method.Call(arguments)
	if err, _ := answers[1].Interface().(error); err != nil {
		return err
	}
	stream := answers[0]
	if !hasRequest {
		send := stream.MethodByName("Send")
		for _, text := range call.Requests {
			request, err := message(send.Type().In(0), text)
			if err != nil {
				return err
			}
			if err, _ := send.Call([]reflect.Value{request})[0].Interface().(error); err != nil {
				return err
			}
		}
		if err, _ := stream.MethodByName("CloseSend").Call(nil)[0].Interface().(error); err != nil {
			return err
		}
	}
	receive := stream.MethodByName("Recv")
	if !receive.IsValid() {
		return nil
	}
	if err, _ := receive.Call(nil)[1].Interface().(error); err != nil && err != io.EOF {
		return err
	}
	return nil
}

func message(pointer reflect.Type, text json.RawMessage) (reflect.Value, error) {
	made := reflect.New(pointer.Elem())
	if len(text) == 0 {
		return made, nil
	}
	return made, protojson.Unmarshal(text, made.Interface().(proto.Message))
}
