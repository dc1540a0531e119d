package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// driver is the process with the tested client. It reads commands as lines of JSON, and prints what
// the client delivers to its application.
type driver struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	ended chan error // receives the exit error of the process, once
}

func startDriver(command []string, b *board) (*driver, error) {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start driver: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start driver: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start driver: %w", err)
	}
	d := &driver{cmd: cmd, in: in, ended: make(chan error, 1)}
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			object, err := parseObject(lines.Text())
			if err != nil {
				b.fail("the driver printed a line that is not JSON: " + lines.Text())
				continue
			}
			b.put("sees", nil, object)
		}
		err := cmd.Wait()
		if err != nil {
			b.fail(fmt.Sprintf("the driver ended: %v", err))
		}
		d.ended <- err
	}()
	return d, nil
}

func (d *driver) do(command map[string]any) error {
	line, err := json.Marshal(command)
	if err == nil {
		_, err = d.in.Write(append(line, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write to driver: %w", err)
	}
	return nil
}

// close ends the input of the process and waits for its end. The driver then closes its client.
func (d *driver) close(limit time.Duration) error {
	d.in.Close()
	select {
	case err := <-d.ended:
		return err
	case <-time.After(limit):
		d.kill()
		return errors.New("the driver did not end at the end of its input")
	}
}

func (d *driver) kill() {
	d.cmd.Process.Kill()
	<-d.ended
}
