module example.com/files

go 1.25.0

require github.com/claviger/claviger/clients/go v0.0.0

replace github.com/claviger/claviger/clients/go => ../../../clients/go
