// The types of @roomcast/client/react.
import type { Connection, ConnectionState, Event, From, Identity, Members, Message, Options, Room, RoomcastError, RoomState } from "@roomcast/client";

/** Opens a connection, and closes it with the component. If the app passes a Connection of its own, returns only the state of that connection. */
export function useConnection(options?: Options | string | URL | Connection): {
  /** null until the component is mounted. */
  readonly connection: Connection | null;
  readonly state: ConnectionState;
  readonly you: Identity | null;
  /** Why the client has stopped trying. */
  readonly error: RoomcastError | null;
};

/** Joins a room. It leaves the room when no component uses it any more. The options count only at the first join. */
export function useRoom<D = unknown>(connection: Connection | null, name: string, options?: From & {
  /** The number of newest events to show; default 500. */
  limit?: number;
}): {
  /** null until the component is mounted. */
  readonly room: Room<D> | null;
  readonly state: RoomState;
  /** Why we are not in the room, in the state "refused". */
  readonly error: RoomcastError | null;
  readonly events: readonly Event<D>[];
  /** Our messages that are not answered yet. */
  readonly pending: readonly Message[];
};

/** The members of a room, kept up to date. */
export function useMembers(room: Room<any> | null): Members;
