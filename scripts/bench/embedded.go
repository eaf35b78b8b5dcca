package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"edgepost/appliance"
	"edgepost/appliance/message"
)

// embed starts an appliance inside this process, as a program that embeds it does.
func embed(data string, cipher appliance.EncryptionConfig) (*appliance.Appliance, error) {
	a, err := appliance.New(appliance.Config{
		Data: data, HTTP: appliance.HTTPConfig{Addr: "127.0.0.1:0"}, MQTT: appliance.MQTTConfig{Addr: "127.0.0.1:0"},
		Storage: appliance.StorageConfig{MaxBytes: logBudget, Encryption: cipher},
	}, appliance.Options{Version: "bench"})
	if err != nil {
		return nil, err
	}
	return a, a.Start(context.Background())
}

// edgepostPublish is a child: durable publishes through the Go API. Arguments: directory, publishers,
// payload bytes, span, loop device.
func edgepostPublish(args arguments) (err error) {
	data, n, payload, span, loop := args.text(0), args.number(1), args.number(2), args.span(3), args.text(4)
	a, err := embed(data, appliance.EncryptionConfig{})
	if err != nil {
		return err
	}
	ctx := context.Background()
	defer func() { err = errors.Join(err, a.Stop(ctx)) }()
	run, err := publisher(ctx, a, n, payload, span)
	if err != nil {
		return err
	}
	m, err := onDevice(loop, filepath.Dir(data), int64(payload), run)
	if err != nil {
		return err
	}
	return answer(m)
}

// publisher returns what measures durable publishes to an appliance for a span.
func publisher(ctx context.Context, a *appliance.Appliance, n, payload int, span time.Duration) (func() (measured, error), error) {
	err := each(ctx, publishDevices, 8, func(i int) error {
		_, err := a.AddDevice(ctx, deviceName(i))
		return err
	})
	body := make([]byte, payload)
	return func() (measured, error) {
		return drive(ctx, n, span, ownCPU, func(i int) (worker, error) {
			topic := message.Topic(inboxTopic(i % publishDevices))
			return one(func() error {
				_, err := a.Publish(ctx, message.New(topic, body))
				return err
			}), nil
		})
	}, err
}

// edgepostHeap is a child: what the appliance holds in memory after a start with that directory.
func edgepostHeap(args arguments) (err error) {
	began := time.Now()
	a, err := embed(args.text(0), appliance.EncryptionConfig{})
	if err != nil {
		return err
	}
	took := time.Since(began)
	defer func() { err = errors.Join(err, a.Stop(context.Background())) }()
	h := readHeap()
	h.Start = took
	return answer(h)
}

// fsyncLoop is a child: the bare limit of one publisher, an overwrite of 4 KiB of zeros that are there
// already, and fdatasync. Arguments: file, span, loop device.
func fsyncLoop(args arguments) error {
	f, err := os.Create(args.text(0))
	if err != nil {
		return err
	}
	defer f.Close()
	const size, block = 8 << 20, 4096
	if _, err := f.Write(make([]byte, size)); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	page := make([]byte, block)
	var at int64
	m, err := onDevice(args.text(2), filepath.Dir(args.text(0)), block, func() (measured, error) {
		return drive(context.Background(), 1, args.span(1), ownCPU, func(int) (worker, error) {
			return one(func() error {
				if _, err := f.WriteAt(page, at); err != nil {
					return err
				}
				at = (at + block) % size
				return unix.Fdatasync(int(f.Fd()))
			}), nil
		})
	})
	if err != nil {
		return err
	}
	return answer(m)
}
