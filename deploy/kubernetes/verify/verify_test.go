// Package verify reads the manifests with the types of Kubernetes and of KEDA,
// strictly, and has KEDA's own scaler look at a NATS server with their
// parameters. It is a module of its own, because of what KEDA depends on.
package verify

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"
)

const file = "../waybill.yaml"

// kinds are what the manifests may hold.
func kinds() map[string]any {
	return map[string]any{
		"v1 ConfigMap":                       &corev1.ConfigMap{},
		"apps/v1 Deployment":                 &appsv1.Deployment{},
		"batch/v1 Job":                       &batchv1.Job{},
		"networking.k8s.io/v1 NetworkPolicy": &networkingv1.NetworkPolicy{},
		"policy/v1 PodDisruptionBudget":      &policyv1.PodDisruptionBudget{},
		"keda.sh/v1alpha1 ScaledObject":      &kedav1alpha1.ScaledObject{},
	}
}

// decoded are the manifests, each in its type.
func decoded(t *testing.T) []any {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all []any
	for i, doc := range bytes.Split(text, []byte("\n---\n")) {
		var head struct{ APIVersion, Kind string }
		if err := yaml.Unmarshal(doc, &head); err != nil {
			t.Fatalf("document %d: %v", i, err)
		}
		into, ok := kinds()[head.APIVersion+" "+head.Kind]
		if !ok {
			t.Fatalf("document %d is a %s %s, which is not expected", i, head.APIVersion, head.Kind)
		}
		if err := yaml.UnmarshalStrict(doc, into); err != nil {
			t.Errorf("document %d, %s: %v", i, head.Kind, err)
		}
		all = append(all, into)
	}
	return all
}

// of are the manifests of one type.
func of[T any](all []any) (some []*T) {
	for _, one := range all {
		if x, ok := one.(*T); ok {
			some = append(some, x)
		}
	}
	return some
}

func TestStrict(t *testing.T) {
	all := decoded(t)
	deployments, jobs, scaled := of[appsv1.Deployment](all), of[batchv1.Job](all), of[kedav1alpha1.ScaledObject](all)
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
