module github.com/claviger/claviger/clients/go

go 1.25.0
