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

// diskSize is the size of a disk: far more than a run writes.
const diskSize = "1g"

// mountDisk gives p a disk of its own, in memory: an ext4 file system, which can lose power,
// or where the machine has no loop devices a tmpfs.
func (p *Process) mountDisk() error {
	ctx := context.Background()
	if err := run(ctx, "mount", "-t", "tmpfs", "-o", "size="+diskSize, "tmpfs", p.data); err != nil {
		return err
	}
	p.disk = true
	// The namespaces of the processes have copies of this mount. Being shared, it takes what is
	// mounted on it away from them too.
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

// unmountDisk takes p's disk away.
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

// fillDisk leaves no room on p's disk.
func (p *Process) fillDisk() error {
	if p.device != "" {
		return p.writeFiller()
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(p.data, &fs); err != nil {
		return fmt.Errorf("look at the disk of %s: %w", p.Name, err)
	}
	used := (fs.Blocks - fs.Bfree) * uint64(fs.Bsize)
	// More may be written between the look and the change, which then fails: try again.
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

// writeFiller takes every free block of an ext4 disk.
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

// losePower kills the processes after a time and drops the data that they have not synced to
// their disks. Without a sync before every acknowledgement it syncs first, as at the end of
// an interval.
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

// ext4Shutdown is EXT4_IOC_SHUTDOWN, and noLogFlush its flag that drops the journal's
// memory too.
const (
	ext4Shutdown = 0x8004587d
	noLogFlush   = 2
)

// shutDisk makes p's disk drop what has not been synced, and fail from now on.
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

// remount brings a disk back that has lost its power.
func (p *Process) remount() error {
	var err error
	for range 50 { // a process that was killed may hold it for a moment
		if err = run(context.Background(), "umount", p.data); err == nil {
			return run(context.Background(), "mount", p.device, p.data)
		}
		time.Sleep(20 * time.Millisecond)
	}
	return err
}

// restore lets the processes go on for a time, kills them, and gives them the log as it was
// before that time.
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
		// Synced, or a power loss would take what the server never wrote itself.
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

// flip stops the process, cleanly or not, changes one bit of its log, and starts it. After a
// time it has the process read the whole log again: a server that finds its index in order
// reads a damaged block much later, when no fault is at work that permits a loss.
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

// flipBit changes one bit of the newest record, of a middle one, of the header of a file, or
// of the index.
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
		if _, err := os.Stat(index); err == nil { // it exists after a clean stop
			path = index
		}
	}
	b, err := os.ReadFile(path)
	if err != nil || len(b) == 0 {
		return nil // nothing has been written there yet
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
