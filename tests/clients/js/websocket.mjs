// Gives Node before 22 what browsers and later ones have.

import WebSocket from 'ws'

globalThis.WebSocket ??= WebSocket
