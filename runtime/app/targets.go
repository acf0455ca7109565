package app

import (
	"encoding/json"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/micro"

	"github.com/waybill-go/waybill/runtime/discovery"
)

// withMetrics adds to a service's metadata where the process's metrics are.
func (p *process) withMetrics(metadata map[string]string) map[string]string {
	if p.metricsAddress == "" {
		return metadata
	}
	all := map[string]string{discovery.MetadataMetrics: p.metricsAddress}
	maps.Copy(all, metadata)
	return all
}

// target is one process as Prometheus takes it: see its http_sd_configs.
type target struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

// answerTargets tells Prometheus where the metrics of this machine's processes are:
// they come and go, each on a port of its own.
func (p *process) answerTargets(w http.ResponseWriter, r *http.Request) {
	asked, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		asked = r.Host // on the port that goes without saying
	}
	if p.connected.Load() == nil {
		http.Error(w, "starting", http.StatusServiceUnavailable)
		return
	}
	running, err := discovery.Running(r.Context(), p.connected.Load(), "")
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable) // it keeps those that it knows
		return
	}
	hostname, err := os.Hostname()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(targets(running, hostname, asked)) // who asked went away
}

// targets are the processes of a host, by the name that it was asked under, each with
// what it runs.
func targets(running []micro.Info, hostname, asked string) []target {
	services := map[string][]string{} // by their process's port
	for _, r := range running {
		_, port, err := net.SplitHostPort(r.Metadata[discovery.MetadataMetrics])
		if err == nil && r.Metadata[discovery.MetadataHost] == hostname && !slices.Contains(services[port], r.Name) {
			services[port] = append(services[port], r.Name)
		}
	}
	all := []target{}
	for _, port := range slices.Sorted(maps.Keys(services)) {
		slices.Sort(services[port])
		all = append(all, target{
			Targets: []string{net.JoinHostPort(asked, port)},
			Labels:  map[string]string{"services": strings.Join(services[port], ",")},
		})
	}
	return all
}
