package verify_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"

	"github.com/waybill-go/waybill/deploy/kubernetes/verify"
)

// least is how many replicas there are at least.
func least(name string, deployments []*appsv1.Deployment, scaled []*kedav1alpha1.ScaledObject) int32 {
	for _, s := range scaled {
		if s.Name == name {
			return *s.Spec.MinReplicaCount
		}
	}
	for _, d := range deployments {
		if d.Name == name && d.Spec.Replicas != nil {
			return *d.Spec.Replicas
		}
	}
	return 0
}

func TestStrict(t *testing.T) {
	all, err := verify.Read("../waybill.yaml")
	if err != nil {
		t.Fatal(err)
	}
	deployments, jobs, scaled := verify.Of[appsv1.Deployment](all), verify.Of[batchv1.Job](all), verify.Of[kedav1alpha1.ScaledObject](all)
	if len(deployments) < 6 || len(jobs) != 1 || len(scaled) < 3 {
		t.Fatalf("%d deployments, %d jobs, %d scaled objects", len(deployments), len(jobs), len(scaled))
	}
	if err := yaml.UnmarshalStrict([]byte("apiVersion: apps/v1\nkind: Deployment\nspec: {replicaz: 1}"), &appsv1.Deployment{}); err == nil {
		t.Error("strict takes a field that is not there")
	}
	provision := slices.IndexFunc(all, func(x any) bool { _, ok := x.(*batchv1.Job); return ok })
	for i, x := range all {
		d, ok := x.(*appsv1.Deployment)
		if !ok {
			continue
		}
		if d.Name != "eventstore" && i < provision {
			t.Errorf("%s comes before what it needs is provisioned", d.Name)
		}
		checkPods(t, d)
	}
	budgets := verify.Of[policyv1.PodDisruptionBudget](all)
	for _, b := range budgets {
		if !slices.ContainsFunc(deployments, func(d *appsv1.Deployment) bool {
			return d.Name == b.Name && maps.Equal(d.Spec.Selector.MatchLabels, b.Spec.Selector.MatchLabels)
		}) {
			t.Errorf("the PodDisruptionBudget %s is for nothing", b.Name)
		}
		if n := least(b.Name, deployments, scaled); n < 2 {
			t.Errorf("of %s run %d: when a node goes none is left to answer", b.Name, n)
		}
	}
	if len(budgets) != 8 { // the event store, and what answers requests
		t.Errorf("there are %d PodDisruptionBudgets", len(budgets))
	}
	services := verify.Of[corev1.Service](all)
	for _, s := range services {
		if !slices.ContainsFunc(deployments, func(d *appsv1.Deployment) bool { return leadsTo(s, d) }) {
			t.Errorf("the Service %s leads nowhere", s.Name)
		}
	}
	if len(services) != 1 {
		t.Errorf("there are %d Services", len(services))
	}
	for _, s := range scaled {
		if err := kedav1alpha1.CheckReplicaCountBoundsAreValid(s); err != nil {
			t.Errorf("%s: %v", s.Name, err)
		}
		if !slices.ContainsFunc(deployments, func(d *appsv1.Deployment) bool {
			return d.Name == s.Spec.ScaleTargetRef.Name && d.Spec.Replicas == nil
		}) {
			t.Errorf("%s scales %s, and there is no such Deployment that leaves the number to it", s.Name, s.Spec.ScaleTargetRef.Name)
		}
	}
}

// leadsTo tells whether a Service has the pods of a Deployment, and a port that
// they are told to listen on.
func leadsTo(s *corev1.Service, d *appsv1.Deployment) bool {
	for k, v := range s.Spec.Selector {
		if d.Spec.Template.Labels[k] != v {
			return false
		}
	}
	c := d.Spec.Template.Spec.Containers[0]
	return slices.ContainsFunc(c.Ports, func(p corev1.ContainerPort) bool {
		listens := slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return e.Value == fmt.Sprintf("0.0.0.0:%d", p.ContainerPort) })
		return p.Name == s.Spec.Ports[0].TargetPort.StrVal && listens
	})
}

// checkPods checks what a strict reading does not see.
func checkPods(t *testing.T, d *appsv1.Deployment) {
	t.Helper()
	if len(d.Spec.Template.Labels) == 0 {
		t.Errorf("%s: its pods have no labels", d.Name)
	}
	for k, v := range d.Spec.Selector.MatchLabels {
		if d.Spec.Template.Labels[k] != v {
			t.Errorf("%s selects %s=%s, and its pods have %q", d.Name, k, v, d.Spec.Template.Labels[k])
		}
	}
	if grace := d.Spec.Template.Spec.TerminationGracePeriodSeconds; grace == nil || *grace <= 25 {
		t.Errorf("%s: a drain takes up to 25s, and its grace is %v", d.Name, grace)
	}
	c := d.Spec.Template.Spec.Containers[0]
	if c.ReadinessProbe == nil || c.LivenessProbe == nil {
		t.Errorf("%s has no probes", d.Name)
	}
	if c.Resources.Requests.Cpu().IsZero() || c.Resources.Requests.Memory().IsZero() || c.Resources.Limits.Memory().IsZero() {
		t.Errorf("%s has no resources", d.Name)
	}
	if len(c.Args) != 2 || c.Args[0] != "run" || c.Args[1] != d.Name {
		t.Errorf("%s runs %v", d.Name, c.Args)
	}
	for _, e := range c.Env {
		if strings.HasSuffix(e.Name, "_DB") && (e.ValueFrom == nil || e.ValueFrom.SecretKeyRef == nil) {
			t.Errorf("%s: %s is not in a Secret", d.Name, e.Name)
		}
	}
}
