package fleet

import (
	"encoding/json"

	"github.com/waybill-go/waybill/runtime/discovery"
	"github.com/waybill-go/waybill/runtime/scaling/supervisor"
)

// supervised is what supervisors tell of a function.
type supervised struct {
	supervisor.Status
	durable durable
}

// supervision gathers what supervisors tell, by function.
func supervision(instances []discovery.Instance) map[string]*supervised {
	all := map[string]*supervised{}
	for _, i := range instances {
		for n, e := range i.Endpoints {
			if e.Metadata[discovery.MetadataKind] != discovery.KindSupervisor {
				continue
			}
			var told supervisor.Status
			if json.Unmarshal(i.Stats[n].Data, &told) != nil {
				continue // anyone may answer; nonsense is passed over
			}
			name := e.Metadata[discovery.MetadataFunction]
			s := all[name]
			if s == nil {
				s = &supervised{durable: durableOf(e)}
				all[name] = s
			}
			s.Wanted, s.Starts = s.Wanted+told.Wanted, s.Starts+told.Starts
			if told.Problem != "" {
				s.Problem = told.Problem
			}
		}
	}
	return all
}

// addSupervised tells of functions what supervisors do; those that are at zero
// are there by that alone.
func (l *list) addSupervised(told map[string]*supervised) {
	for name, t := range told {
		s, atZero := l.service(name)
		if atZero && t.durable.name != "" {
			l.addLag(s, t.durable)
		}
		s.Wanted, s.Starts = &t.Wanted, &t.Starts
		if t.Problem != "" {
			s.Problems = append(s.Problems, "ends again and again: "+t.Problem)
		}
	}
}
