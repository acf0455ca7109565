package rpc

import "time"

// WithTimeout has calls without a deadline end sooner, for tests.
func (c *Client) WithTimeout(d time.Duration) *Client { c.timeout = d; return c }
