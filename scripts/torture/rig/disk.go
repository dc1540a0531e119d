//go:build linux

package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"roomcast/scripts/torture/fault"
)

// diskSize is the size of a disk. A run writes far less.
const diskSize = "1g"

// mountDisk gives p a disk of its own, in memory. The disk has an ext4 file system, on which a loss
// of power can be simulated. On a machine without loop devices the disk is a tmpfs, and a loss of
// power cannot be simulated.
func (p *Process) mountDisk() error {
	ctx := context.Background()
	if err := run(ctx, "mount", "-t", "tmpfs", "-o", "size="+diskSize, "tmpfs", p.data); err != nil {
		return err
	}
	p.disk = true
	// The mount namespace of each process has a copy of this mount. The mount is shared, so that
	// unmounting the disk also takes effect in the copies.
	if err := run(ctx, "mount", "--make-shared", p.data); err != nil {
		return err
	}
	image := filepath.Join(p.data, "image")
	err := run(ctx, "truncate", "-s", diskSize, image)
	if err == nil {
		err = run(ctx, "mkfs.ext4", "-q", "-F", image)
	}
	var device []byte
	if err == nil {
		device, err = exec.Command("losetup", "--find", "--show", image).Output()
	}
	if err == nil {
		p.device = strings.TrimSpace(string(device))
		err = run(ctx, "mount", p.device, p.data)
	}
	if err != nil {
		fmt.Println("torture: no disk can lose power:", err)
		p.releaseDevice()
		os.Remove(image)
	}
	return nil
}

func (p *Process) releaseDevice() error {
	if p.device == "" {
		return nil
	}
	device := p.device
	p.device = ""
	return run(context.Background(), "losetup", "--detach", device)
}

// unmountDisk unmounts p's disk, if it has one.
func (p *Process) unmountDisk() error {
	if !p.disk {
		return nil
	}
	var err error
	if p.device != "" {
		err = errors.Join(run(context.Background(), "umount", "-l", p.data), p.releaseDevice())
	}
	return errors.Join(err, run(context.Background(), "umount", "-l", p.data))
}

// fillDisk leaves no free space on p's disk.
func (p *Process) fillDisk() error {
	if p.device != "" {
		return p.writeFiller()
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(p.data, &fs); err != nil {
		return fmt.Errorf("look at the disk of %s: %w", p.Name, err)
	}
	used := (fs.Blocks - fs.Bfree) * uint64(fs.Bsize)
	// The resize fails if the process writes between Statfs and the resize. Then try again.
	for range 10 {
		if p.resizeDisk(strconv.FormatUint(used, 10)) == nil {
			return nil
		}
		used += 1 << 16
	}
	return fmt.Errorf("fill the disk of %s: it grows too fast", p.Name)
}

// emptyDisk undoes fillDisk.
func (p *Process) emptyDisk() error {
	if p.device != "" {
		return os.Remove(p.filler())
	}
	return p.resizeDisk(diskSize)
}

func (p *Process) resizeDisk(size string) error {
	return run(context.Background(), "mount", "-o", "remount,size="+size, p.data)
}

func (p *Process) filler() string { return filepath.Join(p.data, "filler") }

// writeFiller writes a file that takes every free block of an ext4 disk.
func (p *Process) writeFiller() error {
	f, err := os.Create(p.filler())
	if err != nil {
		return fmt.Errorf("fill the disk of %s: %w", p.Name, err)
	}
	defer f.Close()
	end := int64(0)
	for step := int64(64 << 20); step >= 4096; {
		if err := unix.Fallocate(int(f.Fd()), 0, end, step); err != nil {
			step /= 2
			continue
		}
		end += step
	}
	return nil
}

// losePower waits for the given time, kills the processes, and drops the data that they have not
// synced to their disks. If NATS syncs only at intervals, losePower first syncs the disks once, as
// if an interval ended then.
func (r *Rig) losePower(ctx context.Context, list []*Process, after time.Duration) error {
	for _, p := range list {
		if r.cfg.Sync == "always" {
			break
		}
		if err := p.syncDisk(); err != nil {
			return err
		}
	}
	sleep(ctx, after)
	for _, p := range list {
		p.mayEnd()
		if err := p.shutDisk(); err != nil {
			return err
		}
	}
	kill(list)
	for _, p := range list {
		if err := p.remount(); err != nil {
			return err
		}
	}
	return nil
}

func (p *Process) syncDisk() error {
	dir, err := os.Open(p.data)
	if err != nil {
		return fmt.Errorf("sync the disk of %s: %w", p.Name, err)
	}
	defer dir.Close()
	if err := unix.Syncfs(int(dir.Fd())); err != nil {
		return fmt.Errorf("sync the disk of %s: %w", p.Name, err)
	}
	return nil
}

// ext4Shutdown is EXT4_IOC_SHUTDOWN. The flag noLogFlush also drops the part of the file system's
// journal that is still in memory.
const (
	ext4Shutdown = 0x8004587d
	noLogFlush   = 2
)

// shutDisk makes the file system of p's disk drop all data that is not synced, and refuse every
// later access.
func (p *Process) shutDisk() error {
	dir, err := os.Open(p.data)
	if err != nil {
		return fmt.Errorf("cut the power of %s: %w", p.Name, err)
	}
	defer dir.Close()
	how := uint32(noLogFlush)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), ext4Shutdown, uintptr(unsafe.Pointer(&how))); errno != 0 {
		return fmt.Errorf("cut the power of %s: %w", p.Name, errno)
	}
	return nil
}

// remount mounts p's disk again after a power loss.
func (p *Process) remount() error {
	var err error
	for range 50 { // a killed process may keep the disk busy for a moment
		if err = run(context.Background(), "umount", p.data); err == nil {
			return run(context.Background(), "mount", p.device, p.data)
		}
		time.Sleep(20 * time.Millisecond)
	}
	return err
}

// restore copies the log of each process, lets the processes run for the given time, kills them,
// and replaces their logs with the copies.
func restore(ctx context.Context, list []*Process, after time.Duration) error {
	for _, p := range list {
		p.signal(syscall.SIGSTOP, false)
	}
	var err error
	for _, p := range list {
		err = errors.Join(err, copyLog(p.log+".d", p.store()))
	}
	for _, p := range list {
		p.signal(syscall.SIGCONT, false)
	}
	if err != nil {
		return err
	}
	sleep(ctx, after)
	kill(list)
	for _, p := range list {
		// Sync the copy. Otherwise a later power loss could take a part of the copy.
		err = errors.Join(err, copyLog(p.store(), p.log+".d"), p.syncDisk())
	}
	return err
}

// store returns where a server keeps its streams.
func (p *Process) store() string { return filepath.Join(p.data, "jetstream") }

func copyLog(to, from string) error {
	if err := os.RemoveAll(to); err != nil {
		return fmt.Errorf("copy the log: %w", err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		return fmt.Errorf("copy the log: %w", err)
	}
	return nil
}

// flip stops or kills the process, changes one bit of its log, and starts it again. After the
// duration of the step it kills the process and removes the index, so that the server reads the
// whole log at the next start. With an intact index, the server might read the damaged block much
// later. Then the check would no longer attribute the loss to this fault.
func (p *Process) flip(ctx context.Context, s fault.Step) error {
	if err := p.flipBit(s.Pick); err != nil {
		return err
	}
	if err := p.Start(); err != nil {
		return err
	}
	sleep(ctx, s.For)
	kill([]*Process{p})
	index := filepath.Join(p.store(), "*", "streams", "ROOMS", "msgs", "index.db")
	found, err := filepath.Glob(index)
	if err != nil {
		return fmt.Errorf("find the index of %s: %w", p.Name, err)
	}
	for _, path := range found {
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("remove the index of %s: %w", p.Name, err)
		}
	}
	return p.syncDisk()
}

// flipBit changes one bit of the newest record, of a record in the middle, of the header of a file,
// or of the index. The number pick decides which.
func (p *Process) flipBit(pick uint64) error {
	if pick%2 == 0 {
		p.stop()
	} else {
		kill([]*Process{p})
	}
	pick /= 2
	blocks, err := filepath.Glob(filepath.Join(p.store(), "*", "streams", "ROOMS", "msgs", "*.blk"))
	if err != nil || len(blocks) == 0 {
		return fmt.Errorf("flip a byte of %s: no log was found in %s", p.Name, p.store())
	}
	slices.SortFunc(blocks, func(a, b string) int { return number(a) - number(b) })
	path := blocks[len(blocks)-1]
	place := pick % 4
	if place == 1 {
		path = blocks[pick/4%uint64(len(blocks))]
	}
	if index := filepath.Join(filepath.Dir(path), "index.db"); place == 3 {
		if _, err := os.Stat(index); err == nil { // the index exists only after a clean stop
			path = index
		}
	}
	b, err := os.ReadFile(path)
	if err != nil || len(b) == 0 {
		return nil // the process has not written to the file yet
	}
	size := uint64(len(b))
	at := map[uint64]uint64{
		0: size - 1 - pick/8%min(size, 60),
		1: size/4 + pick/8%(size/2+1),
		2: pick / 8 % min(size, 22),
		3: pick / 8 % size,
	}[place]
	b[at] ^= 1 << (pick % 8)
	fmt.Printf("torture: byte %d of %d of %s is flipped\n", at, size, path)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		return fmt.Errorf("flip a byte of %s: %w", p.Name, err)
	}
	return p.syncDisk()
}

// number returns the number of a block file.
func number(path string) int {
	n, _ := strconv.Atoi(strings.TrimSuffix(filepath.Base(path), ".blk"))
	return n
}
