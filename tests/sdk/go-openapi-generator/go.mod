module example.com/claviger

go 1.25.8

require gopkg.in/validator.v2 v2.0.1
