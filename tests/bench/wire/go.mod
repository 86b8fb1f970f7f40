module foresail.dev/bench/wire

go 1.25
