package discovery

// What an instance tells in its metadata. Announce adds host and pid.
const (
	MetadataHost = "host" // the machine's name
	// MetadataMetrics is where the process answers for its metrics, host:port as it
	// listens there.
	MetadataMetrics = "metrics"
	MetadataPID     = "pid"
	MetadataGRPC    = "grpc" // host:port, of what serves gRPC
)

// What an endpoint tells in its metadata.
const (
	// MetadataKind is one of the kinds below, or the protocol that a server of
	// its own speaks, like HTTP.
	MetadataKind = "kind"
	// MetadataStream and MetadataDurable name the durable consumer whose messages
	// it handles.
	MetadataStream  = "stream"
	MetadataDurable = "durable"
	// MetadataFunction is the function that a supervisor's endpoint tells of.
	MetadataFunction = "function"
	// MetadataSchema begins the keys of its JSON schemas: schema.request,
	// schema.reply, schema.event.
	MetadataSchema = "schema."
)

// The kinds of an endpoint.
const (
	KindRequest    = "request"
	KindEvent      = "event"
	KindTimer      = "timer"
	KindReplay     = "replay"     // a dead letter, to be handled again
	KindRelay      = "relay"      // counts what the relay sent to JetStream
	KindStore      = "store"      // counts what was appended to the event store
	KindSupervisor = "supervisor" // its data is a supervisor.Status
)
