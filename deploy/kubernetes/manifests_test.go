//go:build unix

// Package kubernetes_test holds the manifests beside it against Kubernetes' own types, against each other, against the image, and against the
// binary, which it starts as they do.
package kubernetes_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	strict "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

const (
	// patience bounds what takes long only where something is broken.
	patience = 60 * time.Second
	// stopTakes is how long a stop of hubhook takes at most, by docs/production.md.
	stopTakes = 40
)

// manifests is what a file has in it. Each file has one of each, with either a StatefulSet or a Deployment.
type manifests struct {
	config   core.ConfigMap
	stateful apps.StatefulSet
	deployed apps.Deployment
	service  core.Service
	ingress  networking.Ingress
	network  networking.NetworkPolicy
	budget   policy.PodDisruptionBudget
}

var files = map[string][]string{
	"one-replica.yaml":    {"ConfigMap", "StatefulSet", "Service", "Ingress", "NetworkPolicy"},
	"three-replicas.yaml": {"ConfigMap", "Deployment", "PodDisruptionBudget", "Service", "Ingress", "NetworkPolicy"},
}

// load reads a file. A field that Kubernetes does not know, or that has another type there, fails the test.
func load(t *testing.T, file string) *manifests {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	m := &manifests{}
	types := map[string]any{
		"v1 ConfigMap": &m.config, "v1 Service": &m.service, "apps/v1 StatefulSet": &m.stateful, "apps/v1 Deployment": &m.deployed,
		"networking.k8s.io/v1 Ingress": &m.ingress, "networking.k8s.io/v1 NetworkPolicy": &m.network, "policy/v1 PodDisruptionBudget": &m.budget,
	}
	var kinds []string
	for i, document := range bytes.Split(text, []byte("\n---\n")) {
		var kind meta.TypeMeta
		if err := yaml.Unmarshal(document, &kind); err != nil {
			t.Fatalf("%s, document %d: %v", file, i+1, err)
		}
		into, ok := types[kind.APIVersion+" "+kind.Kind]
		if !ok {
			t.Fatalf("%s, document %d: unexpected %s %s", file, i+1, kind.APIVersion, kind.Kind)
		}
		inJSON, err := yaml.YAMLToJSONStrict(document)
		if err != nil {
			t.Fatalf("%s, %s: %v", file, kind.Kind, err)
		}
		// As an API server reads: it tells capitals from small letters.
		if unknown, err := strict.UnmarshalStrict(inJSON, into); err != nil || unknown != nil {
			t.Fatalf("%s, %s: %v %v", file, kind.Kind, err, unknown)
		}
		if name := into.(meta.Object).GetName(); name != "hubhook" {
			t.Errorf("%s: the %s is called %q", file, kind.Kind, name)
		}
		kinds = append(kinds, kind.Kind)
	}
	if !slices.Equal(kinds, files[file]) {
		t.Fatalf("%s has %v, want %v", file, kinds, files[file])
	}
	return m
}

// workload returns the pods of the StatefulSet or Deployment, with its selector and number.
func (m *manifests) workload() (core.PodTemplateSpec, *meta.LabelSelector, int32) {
	if m.stateful.Name != "" {
		return m.stateful.Spec.Template, m.stateful.Spec.Selector, *m.stateful.Spec.Replicas
	}
	return m.deployed.Spec.Template, m.deployed.Spec.Selector, *m.deployed.Spec.Replicas
}

func TestManifests(t *testing.T) {
	for file := range files {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			m := load(t, file)
			pod, selector, replicas := m.workload()
			if want := map[bool]int32{true: 1, false: 3}[file == "one-replica.yaml"]; replicas != want {
				t.Errorf("%d replicas, want %d", replicas, want)
			}
			m.checkSelectors(t, pod, selector)
			m.checkNetwork(t, pod)
			checkRights(t, pod.Spec)
			m.checkFiles(t, pod.Spec)
			c := pod.Spec.Containers[0]
			if grace, sleep := *pod.Spec.TerminationGracePeriodSeconds, c.Lifecycle.PreStop.Sleep.Seconds; grace < sleep+stopTakes {
				t.Errorf("%d seconds are not enough for a stop after %d", grace, sleep)
			}
			m.checkRuns(t, c)
		})
	}
}

// checkSelectors looks that all that selects pods selects these.
func (m *manifests) checkSelectors(t *testing.T, pod core.PodTemplateSpec, selector *meta.LabelSelector) {
	t.Helper()
	selectors := map[string]*meta.LabelSelector{"workload": selector, "Service": {MatchLabels: m.service.Spec.Selector}, "NetworkPolicy": &m.network.Spec.PodSelector}
	if m.budget.Name != "" {
		selectors["PodDisruptionBudget"] = m.budget.Spec.Selector
	}
	for i, spread := range pod.Spec.TopologySpreadConstraints {
		selectors[fmt.Sprintf("spread %d", i)] = spread.LabelSelector
	}
	for what, s := range selectors {
		selects, err := meta.LabelSelectorAsSelector(s)
		if err != nil || selects.Empty() || !selects.Matches(labels.Set(pod.Labels)) {
			t.Errorf("the selector of the %s does not select the pods: %v (%v)", what, s, err)
		}
	}
	if m.stateful.Name != "" && m.stateful.Spec.ServiceName != m.service.Name {
		t.Errorf("the StatefulSet names the Service %q", m.stateful.Spec.ServiceName)
	}
	if m.budget.Name != "" && m.budget.Spec.MaxUnavailable.IntValue() != 1 {
		t.Errorf("the budget is %v", m.budget.Spec.MaxUnavailable)
	}
}

// checkNetwork follows a request from the Ingress to the container's port, and looks that the NetworkPolicy lets it through.
func (m *manifests) checkNetwork(t *testing.T, pod core.PodTemplateSpec) {
	t.Helper()
	backend := m.ingress.Spec.Rules[0].HTTP.Paths[0].Backend.Service
	if backend.Name != m.service.Name || backend.Port.Name != m.service.Spec.Ports[0].Name {
		t.Errorf("the Ingress leads to %+v", backend)
	}
	port := pod.Spec.Containers[0].Ports[0]
	if to := m.service.Spec.Ports[0].TargetPort.String(); to != port.Name {
		t.Errorf("the Service leads to port %q", to)
	}
	if through := m.network.Spec.Ingress[0].Ports[0].Port.String(); len(m.network.Spec.Ingress) != 1 || through != port.Name {
		t.Errorf("the NetworkPolicy lets port %q in", through)
	}
	if len(m.network.Spec.PolicyTypes) != 2 {
		t.Errorf("the NetworkPolicy is for %v alone", m.network.Spec.PolicyTypes)
	}
	host := m.ingress.Spec.Rules[0].Host
	if !slices.Contains(m.ingress.Spec.TLS[0].Hosts, host) || !slices.Contains(pod.Spec.Containers[0].Args, "--public-url=https://"+host) {
		t.Errorf("the Ingress is for %s, its certificate for %v, hubhook has %v", host, m.ingress.Spec.TLS[0].Hosts, pod.Spec.Containers[0].Args)
	}
}

// checkRights looks that the pod may do nothing that hubhook doesn't need: Kubernetes' restricted standard, and more.
func checkRights(t *testing.T, pod core.PodSpec) {
	t.Helper()
	p, c := pod.SecurityContext, pod.Containers[0].SecurityContext
	if !*p.RunAsNonRoot || p.SeccompProfile.Type != core.SeccompProfileTypeRuntimeDefault || *c.AllowPrivilegeEscalation || !*c.ReadOnlyRootFilesystem ||
		!slices.Equal(c.Capabilities.Drop, []core.Capability{"ALL"}) || c.Capabilities.Add != nil || *pod.AutomountServiceAccountToken {
		t.Errorf("the pod has too many rights: %+v, %+v", p, c)
	}
	if user := imageSetting(t, "USER"); user != fmt.Sprintf("%d:%d", *p.RunAsUser, *p.RunAsGroup) || *p.FSGroup != *p.RunAsGroup {
		t.Errorf("the pod runs as %d:%d, with volumes of %d, and the image as %s", *p.RunAsUser, *p.RunAsGroup, *p.FSGroup, user)
	}
}

// checkFiles looks that the mounts are where the image expects them, and that there is something to mount.
func (m *manifests) checkFiles(t *testing.T, pod core.PodSpec) {
	t.Helper()
	mounts := map[string]string{}
	for _, mount := range pod.Containers[0].VolumeMounts {
		mounts[mount.MountPath] = mount.Name
	}
	if want := map[string]string{imageSetting(t, "VOLUME"): "data", imageSetting(t, "WORKDIR"): "config"}; !maps.Equal(mounts, want) {
		t.Errorf("mounted are %v, the image has %v", mounts, want)
	}
	volumes := map[string]bool{}
	for _, v := range pod.Volumes {
		volumes[v.Name] = true
		if v.ConfigMap != nil && v.ConfigMap.Name != m.config.Name {
			t.Errorf("the volume %s is of the ConfigMap %q", v.Name, v.ConfigMap.Name)
		}
	}
	for _, claim := range m.stateful.Spec.VolumeClaimTemplates {
		volumes[claim.Name] = true
	}
	if want := map[string]bool{"data": true, "config": true}; !maps.Equal(volumes, want) {
		t.Errorf("the volumes are %v, want %v", volumes, want)
	}
}

// checkRuns starts hubhook with the container's arguments and the ConfigMap's file, and asks it what the probes ask.
func (m *manifests) checkRuns(t *testing.T, c core.Container) {
	t.Helper()
	port := fmt.Sprint(c.Ports[0].ContainerPort)
	if !slices.Contains(c.Args, "--port="+port) || port != imageSetting(t, "EXPOSE") {
		t.Errorf("port %s is not that of %v, or not the image's", port, c.Args)
	}
	help, err := exec.Command(hubhook, "serve", "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range m.config.Data {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// The later of two flags counts. Other ports, since those may be in use; another public URL, since a test asks no name server.
	args := append(slices.Clone(c.Args), "--port=0", "--inspector=127.0.0.1:0", "--public-url=https://127.0.0.1:1", "--json")
	serve := exec.CommandContext(t.Context(), hubhook, args...)
	serve.Dir, serve.Env = dir, []string{"HUBHOOK_DATA=" + filepath.Join(dir, "data")}
	for _, e := range c.Env {
		if e.ValueFrom.SecretKeyRef.Name != "hubhook" || e.Name != "WEBHOOK_SECRET" && !bytes.Contains(help, []byte("["+e.Name+"]")) {
			t.Errorf("hubhook knows no variable %s, or its secret is not that of the guide", e.Name)
		}
		if e.Name != "HUBHOOK_DATABASE" { // internal/e2e runs hubhook with a database
			serve.Env = append(serve.Env, e.Name+"=s3cret")
		}
	}
	var errs bytes.Buffer
	serve.Stderr = &errs
	out, err := serve.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(patience, func() { serve.Process.Kill() })
	defer late.Stop()
	var ready struct {
		Type      string
		LocalURL  string `json:"local_url"`
		Endpoints []struct{ Name string }
	}
	lines := bufio.NewScanner(out)
	for ready.Type != "ready" && lines.Scan() {
		if err := json.Unmarshal(lines.Bytes(), &ready); err != nil {
			t.Errorf("%s: %v", lines.Bytes(), err)
		}
	}
	if ready.Type == "ready" {
		for _, probe := range []*core.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
			if probe.HTTPGet.Port.String() != c.Ports[0].Name {
				t.Errorf("a probe asks port %s", probe.HTTPGet.Port.String())
			}
			answer, err := http.Get(ready.LocalURL + probe.HTTPGet.Path)
			if err != nil {
				t.Fatal(err)
			}
			answer.Body.Close()
			if answer.StatusCode != http.StatusOK {
				t.Errorf("GET %s: %s", probe.HTTPGet.Path, answer.Status)
			}
		}
		if len(ready.Endpoints) != 1 || ready.Endpoints[0].Name != "trigger_training" {
			t.Errorf("the endpoints are %v", ready.Endpoints)
		}
		if err := serve.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	for lines.Scan() {
	}
	if err := serve.Wait(); err != nil || ready.Type != "ready" {
		t.Errorf("hubhook %s: %v\n%s", strings.Join(args, " "), err, &errs)
	}
}

// imageSetting returns what the image's Dockerfile says of something. The image of `make image` is compared with that file by its own test.
func imageSetting(t *testing.T, instruction string) string {
	t.Helper()
	text, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	_, last, _ := strings.Cut(string(text), "\nFROM scratch\n")
	found := regexp.MustCompile(`(?m)^` + instruction + ` (\S+)$`).FindStringSubmatch(last)
	if found == nil {
		t.Fatalf("the Dockerfile has no %s", instruction)
	}
	return found[1]
}

// hubhook is the binary, built by TestMain.
var hubhook string

func TestMain(m *testing.M) {
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "hubhook-kubernetes-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	hubhook = filepath.Join(dir, "hubhook")
	build := exec.Command("go", "build", "-C", "../..", "-o", hubhook, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}
