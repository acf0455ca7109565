// Package verify reads the manifests with the types of Kubernetes and of KEDA,
// strictly; its folder keda has KEDA's own scaler look at a NATS server with their
// parameters. It is a module of its own, because of what KEDA depends on.
package verify

import (
	"bytes"
	"fmt"
	"os"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"
)

// kinds are what the manifests may hold.
func kinds() map[string]any {
	return map[string]any{
		"v1 ConfigMap":                       &corev1.ConfigMap{},
		"v1 Service":                         &corev1.Service{},
		"apps/v1 Deployment":                 &appsv1.Deployment{},
		"batch/v1 Job":                       &batchv1.Job{},
		"networking.k8s.io/v1 NetworkPolicy": &networkingv1.NetworkPolicy{},
		"policy/v1 PodDisruptionBudget":      &policyv1.PodDisruptionBudget{},
		"keda.sh/v1alpha1 ScaledObject":      &kedav1alpha1.ScaledObject{},
	}
}

// Read reads manifests, each into its type. A field that the type does not have
// is an error.
func Read(path string) ([]any, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var all []any
	for i, doc := range bytes.Split(text, []byte("\n---\n")) {
		var head struct{ APIVersion, Kind string }
		if err := yaml.Unmarshal(doc, &head); err != nil {
			return nil, fmt.Errorf("read document %d of %s: %w", i, path, err)
		}
		into, ok := kinds()[head.APIVersion+" "+head.Kind]
		if !ok {
			return nil, fmt.Errorf("read document %d of %s: %s %s is not expected", i, path, head.APIVersion, head.Kind)
		}
		if err := yaml.UnmarshalStrict(doc, into); err != nil {
			return nil, fmt.Errorf("read document %d of %s: %s: %w", i, path, head.Kind, err)
		}
		all = append(all, into)
	}
	return all, nil
}

// Of are those of one type.
func Of[T any](all []any) (some []*T) {
	for _, one := range all {
		if x, ok := one.(*T); ok {
			some = append(some, x)
		}
	}
	return some
}
