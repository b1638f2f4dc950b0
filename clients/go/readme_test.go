package claviger

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
)

// modulePath is that of go.mod, the only place that decides it.
func modulePath(t testing.TB) string {
	t.Helper()
	first, _, _ := strings.Cut(read(t, "go.mod"), "\n")
	path, found := strings.CutPrefix(first, "module ")
	equal(t, found, true)
	return path
}

func read(t testing.TB, file string) string {
	t.Helper()
	return string(must(os.ReadFile(file))(t))
}

func TestModulePathIsTheOneOfGoMod(t *testing.T) {
	path := modulePath(t)
	for _, file := range []string{"README.md", "example_test.go"} {
		found := regexp.MustCompile(`github\.com/[\w./-]*`).FindAllString(read(t, file), -1)
		equal(t, len(found) > 0, true)
		for _, one := range found {
			equal(t, one, path)
		}
	}
}

// The module needs nothing but the standard library.
func TestThereIsNoDependency(t *testing.T) {
	equal(t, strings.Contains(read(t, "go.mod"), "require"), false)
	equal(t, read(t, "LICENSE"), read(t, "../../LICENSE"))
}

func TestProgramsOfTheReadme(t *testing.T) {
	programs, examples := 0, lines(read(t, "example_test.go"))
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(read(t, "README.md"), -1)
	equal(t, len(blocks) >= 4, true)
	for _, block := range blocks {
		if strings.HasPrefix(block[1], "package main") {
			programs++
			contains(t, runProgram(t, block[1]), "true\nvectors\n")
		} else if part := lines(block[1]); !slices.ContainsFunc(starts(examples, part), func(at []string) bool { return slices.Equal(at, part) }) {
			t.Errorf("no example has this block of the README:\n%s", block[1])
		}
	}
	equal(t, programs, 1)
}

// lines are those of a text without indentation.
func lines(text string) []string {
	found := strings.Split(strings.TrimSpace(text), "\n")
	for i, line := range found {
		found[i] = strings.TrimSpace(line)
	}
	return found
}

// starts returns each part of the lines that is as long as another.
func starts(of, other []string) [][]string {
	var found [][]string
	for i := range len(of) - len(other) + 1 {
		found = append(found, of[i:i+len(other)])
	}
	return found
}

// runProgram runs a program as the README says, with the environment of a tenant in which it runs once.
func runProgram(t *testing.T, program string) string {
	t.Helper()
	folder := t.TempDir()
	write(t, filepath.Join(folder, "main.go"), program)
	write(t, filepath.Join(folder, "go.mod"), "module program\n\ngo 1.25.0\n")
	client, tenant := operator(t), unique(t)
	must(client.CreateTenant(t.Context(), tenant, CreateTenantOptions{}))(t)
	must(client.With(WithTenant(tenant)).CreateConnection(t.Context(), "embedded", LocalSettings{}, CreateConnectionOptions{}))(t)
	flags, output := "-mod=mod", ""
	// With the race detector, if this test has it: then the standard library is built once only, which takes half a minute.
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		flags += " -race"
	}
	for _, arguments := range [][]string{
		{"mod", "edit", fmt.Sprintf("-replace=%s=%s", modulePath(t), must(filepath.Abs("."))(t))}, {"get", modulePath(t)}, {"vet", "."}, {"run", "."},
	} {
		command := exec.Command("go", arguments...)
		// Nothing is asked of a registry, and no other version of Go is fetched.
		command.Env = append(os.Environ(), "GOFLAGS="+flags, "GOPROXY=off", "GOTOOLCHAIN=local", "CLAVIGER_TENANT="+tenant)
		command.Dir = folder
		text, err := command.CombinedOutput()
		if err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(arguments, " "), err, text)
		}
		output = string(text)
	}
	return output
}
