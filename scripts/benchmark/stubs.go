//go:build linux

package main

var millionGateways, millionMembers int

func idle(*bench) error          { return nil }
func connect(*bench) error       { return nil }
func stuck(*bench) error         { return nil }
func storm(*bench) error         { return nil }
func ingest(*bench) error        { return nil }
func read(*bench) error          { return nil }
func million(*bench) error       { return nil }
func publishBare([]string) error { return nil }
func beMembers([]string) error   { return nil }
