package rpc

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/waybill-go/waybill/eventstore"
)

// What the errors' details are called on the wire.
const (
	domain         = "eventstore.waybill"
	reasonConflict = "VERSION_CONFLICT"
	reasonIDTaken  = "ID_TAKEN"
)

// errInternal stands for an error that a caller may not see.
var errInternal = errors.New("internal error")

// toStatus is the one map from the contract's errors to gRPC's codes:
//
//	ConflictError    ABORTED, with the actual version
//	IDError          ALREADY_EXISTS
//	InvalidError     INVALID_ARGUMENT, with the field
//	ErrOverloaded    RESOURCE_EXHAUSTED
//	ErrUnavailable   UNAVAILABLE
//	the context's    CANCELLED, DEADLINE_EXCEEDED
//	anything else    INTERNAL, without its text
func toStatus(err error) *status.Status {
	var (
		conflict *eventstore.ConflictError
		taken    *eventstore.IDError
		invalid  *eventstore.InvalidError
	)
	switch {
	case errors.As(err, &conflict):
		return detailed(codes.Aborted, conflict.Error(), &errdetails.ErrorInfo{
			Reason: reasonConflict, Domain: domain, Metadata: map[string]string{
				"stream": conflict.Stream, "aggregate": conflict.Aggregate,
				"expected": strconv.FormatInt(int64(conflict.Expected), 10),
				"actual":   strconv.FormatUint(conflict.Actual, 10),
			},
		}, nil)
	case errors.As(err, &taken):
		return detailed(codes.AlreadyExists, taken.Error(), &errdetails.ErrorInfo{
			Reason: reasonIDTaken, Domain: domain, Metadata: map[string]string{
				"stream": taken.Stream, "id": taken.ID, "aggregate": taken.Aggregate, "reason": taken.Reason,
			},
		}, nil)
	case errors.As(err, &invalid):
		return detailed(codes.InvalidArgument, invalid.Error(), nil, &errdetails.BadRequest{
			FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: invalid.Field, Description: invalid.Reason}},
		})
	case errors.Is(err, eventstore.ErrOverloaded):
		return status.New(codes.ResourceExhausted, eventstore.ErrOverloaded.Error())
	case errors.Is(err, context.Canceled):
		return status.New(codes.Canceled, "canceled")
	case errors.Is(err, context.DeadlineExceeded):
		return status.New(codes.DeadlineExceeded, "deadline exceeded; whether an append was stored is unknown")
	case errors.Is(err, eventstore.ErrUnavailable):
		return status.New(codes.Unavailable, eventstore.ErrUnavailable.Error())
	default:
		return status.New(codes.Internal, errInternal.Error())
	}
}

func detailed(code codes.Code, text string, info *errdetails.ErrorInfo, bad *errdetails.BadRequest) *status.Status {
	st := status.New(code, text)
	var with *status.Status
	var err error
	if info != nil {
		with, err = st.WithDetails(info)
	} else {
		with, err = st.WithDetails(bad)
	}
	if err != nil {
		return st // without details is better than not at all
	}
	return with
}

// fromStatus makes the contract's error of a status again.
func fromStatus(what string, err error) error {
	st := status.Convert(err)
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if typed := fromInfo(d); typed != nil {
				return typed
			}
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				return &eventstore.InvalidError{Field: v.GetField(), Reason: v.GetDescription()}
			}
		}
	}
	switch st.Code() {
	case codes.ResourceExhausted:
		return fmt.Errorf("%s: %w", what, eventstore.ErrOverloaded)
	case codes.Unauthenticated, codes.PermissionDenied:
		// For the operator to mend, and no fault of what was asked.
		return fmt.Errorf("%s: %w: %s", what, eventstore.ErrUnavailable, st.Message())
	case codes.Unavailable:
		return fmt.Errorf("%s: %w: %s", what, eventstore.ErrUnavailable, st.Message())
	case codes.Canceled:
		return fmt.Errorf("%s: %w", what, context.Canceled)
	case codes.DeadlineExceeded:
		return fmt.Errorf("%s: %w", what, context.DeadlineExceeded)
	default:
		return fmt.Errorf("%s: %w", what, err)
	}
}

func fromInfo(info *errdetails.ErrorInfo) error {
	if info.GetDomain() != domain {
		return nil // a proxy's, say
	}
	m := info.GetMetadata()
	switch info.GetReason() {
	case reasonConflict:
		expected, err := strconv.ParseInt(m["expected"], 10, 64)
		actual, err2 := strconv.ParseUint(m["actual"], 10, 64)
		if errors.Join(err, err2) != nil {
			return nil //nolint:nilerr // not one of ours: the status itself is the error
		}
		return &eventstore.ConflictError{
			Stream: m["stream"], Aggregate: m["aggregate"], Expected: eventstore.Expected(expected), Actual: actual,
		}
	case reasonIDTaken:
		return &eventstore.IDError{Stream: m["stream"], ID: m["id"], Aggregate: m["aggregate"], Reason: m["reason"]}
	default:
		return nil
	}
}
