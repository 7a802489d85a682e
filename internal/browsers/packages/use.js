// Uses the package as a page does.
import { Fanfare } from '@fanfare-go/fanfare';

export const stream = new Fanfare({ ws: 'http://127.0.0.1:9/ws', sse: 'http://127.0.0.1:9/events', shared: 'user-17' });
stream.close();
