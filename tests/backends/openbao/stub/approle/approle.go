// Package approle is empty: only tests of OpenBao itself use what stands in its place.
package approle
