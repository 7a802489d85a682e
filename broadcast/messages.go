package broadcast

import (
	"context"
	"errors"
	"iter"
)

// Messages is the blocking form of a subscription, for code that is not a stream, such as a
// worker, a test or a command line. It subscribes when it is ranged over, and closes the
// subscription when the loop ends.
//
// A gap is yielded as an error ([ErrGap]) before the messages that follow it, a beginning
// likewise ([ErrBegin]), and the sequence goes on. Any other error is the last: that of
// Subscribe, [ErrClosed], [ErrEnded], [ErrSlow], or that of ctx once it has ended. The Notify of opts is not used.
func Messages(ctx context.Context, b Broadcaster, opts SubscribeOptions) iter.Seq2[*Message, error] {
	return func(yield func(*Message, error) bool) {
		news := make(chan struct{}, 1)
		opts.Notify = func() {
			select {
			case news <- struct{}{}:
			default:
			}
		}
		sub, err := b.Subscribe(ctx, opts)
		if err != nil {
			yield(nil, err)
			return
		}
		defer sub.Close()

		buf := make([]*Message, 64)
		for ctx.Err() == nil {
			n, err := sub.Poll(buf)
			if err != nil && !yield(nil, err) {
				return
			}
			for _, m := range buf[:n] {
				if !yield(m, nil) {
					return
				}
			}
			switch {
			case err != nil && !errors.Is(err, ErrGap) && !errors.Is(err, ErrBegin):
				return
			case n == 0 && err == nil:
				select {
				case <-news:
				case <-ctx.Done():
				}
			}
		}
		yield(nil, context.Cause(ctx))
	}
}
