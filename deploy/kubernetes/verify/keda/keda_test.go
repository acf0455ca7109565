// Package keda has KEDA's own scaler look at a NATS server.
package keda

import (
	"context"
	"fmt"
	"testing"
	"time"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	"github.com/kedacore/keda/v2/pkg/scalers"
	"github.com/kedacore/keda/v2/pkg/scalers/scalersconfig"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	autoscalingv2 "k8s.io/api/autoscaling/v2"

	"github.com/waybill-go/waybill/deploy/kubernetes/verify"
)

// startNATS starts a server with its monitoring port.
func startNATS(t *testing.T) (js jetstream.JetStream, monitoring string) {
	t.Helper()
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: -1, HTTPHost: "127.0.0.1", HTTPPort: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(30 * time.Second) {
		t.Fatal("the server does not come up")
	}
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if js, err = jetstream.New(nc); err != nil {
		t.Fatal(err)
	}
	return js, s.MonitorAddr().String()
}

// scaler is KEDA's, with the parameters of the manifest, except where the
// server is.
func scaler(t *testing.T, o *kedav1alpha1.ScaledObject, monitoring string) scalers.Scaler {
	t.Helper()
	trigger := o.Spec.Triggers[0]
	if trigger.Type != "nats-jetstream" || len(o.Spec.Triggers) != 1 {
		t.Fatalf("%s has the triggers %+v", o.Name, o.Spec.Triggers)
	}
	metadata := map[string]string{}
	for k, v := range trigger.Metadata {
		metadata[k] = v
	}
	metadata["natsServerMonitoringEndpoint"] = monitoring
	s, err := scalers.NewNATSJetStreamScaler(&scalersconfig.ScalerConfig{
		TriggerMetadata: metadata, MetricType: autoscalingv2.AverageValueMetricType, GlobalHTTPTimeout: 5 * time.Second,
		ScalableObjectName: o.Name, ScalableObjectType: "ScaledObject",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	return s
}

// reads is what the scaler sees: how many events are to be done, and whether
// there is to be a replica at all.
func reads(t *testing.T, s scalers.Scaler) (lag int64, active bool) {
	t.Helper()
	values, active, err := s.GetMetricsAndActivity(t.Context(), "lag")
	if err != nil || len(values) != 1 {
		t.Fatalf("%v, %v", values, err)
	}
	return values[0].Value.Value(), active
}

// TestKEDAReadsTheLag: KEDA's scaler counts what waits and what is in hand, and
// asks for replicas as the manifest says.
func TestKEDAReadsTheLag(t *testing.T) {
	js, monitoring := startNATS(t)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"ORDERS.>"}}); err != nil {
		t.Fatal(err)
	}
	manifests, err := verify.Read("../../waybill.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range verify.Of[kedav1alpha1.ScaledObject](manifests) {
		t.Run(o.Name, func(t *testing.T) {
			m := o.Spec.Triggers[0].Metadata
			filter := "ORDERS.for-" + o.Name
			durable, err := js.CreateConsumer(t.Context(), m["stream"], jetstream.ConsumerConfig{
				Durable: m["consumer"], FilterSubject: filter, AckPolicy: jetstream.AckExplicitPolicy, MaxDeliver: -1,
			})
			if err != nil {
				t.Fatal(err)
			}
			s := scaler(t, o, monitoring)
			if lag, active := reads(t, s); lag != 0 || active {
				t.Errorf("nothing waits: %d, %v", lag, active)
			}
			if _, err := js.Publish(t.Context(), filter, nil); err != nil {
				t.Fatal(err)
			}
			if lag, active := reads(t, s); lag != 1 || !active {
				t.Errorf("one waits: %d, %v", lag, active)
			}
			for range 24 {
				if _, err := js.Publish(t.Context(), filter, nil); err != nil {
					t.Fatal(err)
				}
			}
			batch, err := durable.Fetch(10)
			if err != nil {
				t.Fatal(err)
			}
			done := 0
			for msg := range batch.Messages() {
				if done++; done <= 4 {
					if err := msg.DoubleAck(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
			}
			if lag, active := reads(t, s); done != 10 || lag != 21 || !active {
				t.Errorf("15 wait and 6 are in hand: %d, %v", lag, active)
			}
			target := s.GetMetricSpecForScaling(t.Context())[0].External.Target
			if got := fmt.Sprint(target.AverageValue.Value()); got != m["lagThreshold"] {
				t.Errorf("a replica for each %s, the manifest says %s", got, m["lagThreshold"])
			}
		})
	}
}
