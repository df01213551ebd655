// Command check decodes Kubernetes manifests strictly into Kubernetes' own Go types.
//
// It reads manifests from standard input, as `helm template` writes them, and reports
// every field that a type doesn't have, every kind that it doesn't know, and every pod
// that the Pod Security Standard "restricted" doesn't admit. It exits with 1 if it has
// reported anything, or if there was no manifest.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	certmanager "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/pod-security-admission/api"
	security "k8s.io/pod-security-admission/policy"
	sigsjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// kinds has a function for each kind, which returns a new object of its type.
var kinds = map[meta.TypeMeta]func() any{
	{APIVersion: "apps/v1", Kind: "Deployment"}:                      func() any { return new(apps.Deployment) },
	{APIVersion: "autoscaling/v2", Kind: "HorizontalPodAutoscaler"}:  func() any { return new(autoscaling.HorizontalPodAutoscaler) },
	{APIVersion: "cert-manager.io/v1", Kind: "Certificate"}:          func() any { return new(certmanager.Certificate) },
	{APIVersion: "monitoring.coreos.com/v1", Kind: "PrometheusRule"}: func() any { return new(monitoring.PrometheusRule) },
	{APIVersion: "monitoring.coreos.com/v1", Kind: "ServiceMonitor"}: func() any { return new(monitoring.ServiceMonitor) },
	{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"}:      func() any { return new(networking.NetworkPolicy) },
	{APIVersion: "policy/v1", Kind: "PodDisruptionBudget"}:           func() any { return new(policy.PodDisruptionBudget) },
	{APIVersion: "v1", Kind: "ConfigMap"}:                            func() any { return new(core.ConfigMap) },
	{APIVersion: "v1", Kind: "Service"}:                              func() any { return new(core.Service) },
	{APIVersion: "v1", Kind: "ServiceAccount"}:                       func() any { return new(core.ServiceAccount) },
}

func main() {
	count, faults := check(os.Stdin)
	for _, fault := range faults {
		fmt.Fprintln(os.Stderr, fault)
	}
	fmt.Printf("%d manifests, %d faults\n", count, len(faults))
	if count == 0 || len(faults) > 0 {
		os.Exit(1)
	}
}

// check returns the number of manifests in a stream of YAML documents, and their faults.
func check(manifests io.Reader) (int, []string) {
	var faults []string
	count := 0
	documents := utilyaml.NewYAMLReader(bufio.NewReader(manifests))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return count, faults
		}
		if err != nil {
			return count, append(faults, err.Error())
		}
		text, err := yaml.YAMLToJSONStrict(document)
		if err != nil {
			faults = append(faults, err.Error())
		} else if string(text) != "null" { // a document of comments alone
			count++
			faults = append(faults, faultsOf(text)...)
		}
	}
}

// faultsOf returns the faults of one manifest, as JSON.
func faultsOf(text []byte) []string {
	var object meta.PartialObjectMetadata
	if err := sigsjson.UnmarshalCaseSensitivePreserveInts(text, &object); err != nil {
		return []string{err.Error()}
	}
	name := object.Kind + " " + object.Name
	create, known := kinds[object.TypeMeta]
	if !known {
		return []string{fmt.Sprintf("%s: unknown kind in %q", name, object.APIVersion)}
	}
	var faults []string
	manifest := create()
	unknown, err := sigsjson.UnmarshalStrict(text, manifest)
	if err != nil {
		unknown = append(unknown, err)
	}
	for _, fault := range unknown {
		faults = append(faults, fmt.Sprintf("%s: %v", name, fault))
	}
	if deployment, ok := manifest.(*apps.Deployment); ok {
		for _, fault := range insecurities(&deployment.Spec.Template) {
			faults = append(faults, fmt.Sprintf("%s: %s", name, fault))
		}
	}
	return faults
}

// insecurities returns the reasons why "restricted" doesn't admit the pods of a template.
func insecurities(pod *core.PodTemplateSpec) []string {
	evaluator, err := security.NewEvaluator(security.DefaultChecks(), nil)
	if err != nil {
		return []string{err.Error()}
	}
	restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	var faults []string
	for _, result := range evaluator.EvaluatePod(restricted, &pod.ObjectMeta, &pod.Spec) {
		if !result.Allowed {
			faults = append(faults, result.ForbiddenReason+": "+result.ForbiddenDetail)
		}
	}
	return faults
}
