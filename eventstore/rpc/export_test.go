package rpc

import "time"

// WithTimeout has calls without a deadline end sooner, for tests.
func (c *Client) WithTimeout(d time.Duration) *Client { c.timeout = d; return c }

// WithPipeAge has the client open calls of AppendMany more often.
func (c *Client) WithPipeAge(d time.Duration) *Client {
	for _, l := range c.links {
		l.pipe.age = d
	}
	return c
}
