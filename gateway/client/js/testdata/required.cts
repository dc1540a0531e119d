// CommonJS finds the types too.
import client = require("@roomcast/client");
import react = require("@roomcast/client/react");

const connection: client.Connection = client.connect("ws://h");
export const hook: typeof react.useRoom = react.useRoom;
connection.close({ discard: true });
