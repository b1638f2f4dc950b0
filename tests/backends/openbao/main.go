// Command openbao is OpenBao's own command line, built for the tests as a module of ours.
package main

import (
	"os"

	"github.com/openbao/openbao/command"
)

func main() {
	os.Exit(command.Run(os.Args[1:]))
}
