package com.mindspore.flclient;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.TreeMap;

/** Just enough FlatBuffers for the three messages of a plain round, written and read by hand. */
final class Wire {
    private Wire() {
    }

    /** A table to be written: slot -> Integer, Float, String, Map of weights; children follow their table. */
    static byte[] table(Object... slotsAndValues) {
        ByteBuffer out = ByteBuffer.allocate(1 << 22).order(ByteOrder.LITTLE_ENDIAN);
        out.putInt(0);
        TreeMap<Integer, Object> cells = new TreeMap<>();
        for (int i = 0; i < slotsAndValues.length; i += 2) {
            cells.put((Integer) slotsAndValues[i], slotsAndValues[i + 1]);
        }
        out.putInt(0, writeTable(out, cells));
        byte[] bytes = new byte[out.position()];
        out.flip();
        out.get(bytes);
        return bytes;
    }

    private static int writeTable(ByteBuffer out, TreeMap<Integer, Object> cells) {
        int slots = cells.lastKey() + 1;
        align(out, 4);
        if ((4 + 2 * slots) % 4 != 0) {
            out.putShort((short) 0);
        }
        int vtable = out.position();
        int table = vtable + 4 + 2 * slots;
        out.putShort((short) (4 + 2 * slots));
        out.putShort((short) (4 + 4 * cells.size()));
        int at = 4;
        for (int slot = 0; slot < slots; slot++) {
            out.putShort((short) (cells.containsKey(slot) ? at : 0));
            at += cells.containsKey(slot) ? 4 : 0;
        }
        out.putInt(table - vtable);
        out.position(table + 4 + 4 * cells.size());
        int cell = table + 4;
        for (Object value : cells.values()) {
            if (value instanceof Integer) {
                out.putInt(cell, (Integer) value);
            } else if (value instanceof Float) {
                out.putFloat(cell, (Float) value);
            } else {
                align(out, 4);
                int start = value instanceof String ? writeText(out, (String) value) : writeWeights(out, value);
                out.putInt(cell, start - cell);
            }
            cell += 4;
        }
        return table;
    }

    private static int writeText(ByteBuffer out, String text) {
        byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
        int start = out.position();
        out.putInt(bytes.length).put(bytes).put((byte) 0);
        return start;
    }

    @SuppressWarnings("unchecked")
    private static int writeWeights(ByteBuffer out, Object value) {
        if (value instanceof float[]) {
            int start = out.position();
            out.putInt(((float[]) value).length);
            for (float each : (float[]) value) {
                out.putFloat(each);
            }
            return start;
        }
        Map<String, float[]> weights = (Map<String, float[]>) value;
        int start = out.position();
        out.putInt(weights.size());
        int pointer = out.position();
        out.position(pointer + 4 * weights.size());
        for (Map.Entry<String, float[]> weight : weights.entrySet()) {
            TreeMap<Integer, Object> cells = new TreeMap<>();
            cells.put(0, weight.getKey());
            cells.put(1, weight.getValue());
            int table = writeTable(out, cells);
            out.putInt(pointer, table - pointer);
            pointer += 4;
        }
        return start;
    }

    private static void align(ByteBuffer out, int size) {
        while (out.position() % size != 0) {
            out.put((byte) 0);
        }
    }

    /** A table that was received. */
    static final class Table {
        private final ByteBuffer in;
        private final int start;

        Table(byte[] message) {
            in = ByteBuffer.wrap(message).order(ByteOrder.LITTLE_ENDIAN);
            start = in.getInt(0);
        }

        private Table(ByteBuffer in, int start) {
            this.in = in;
            this.start = start;
        }

        private int cell(int slot) {
            int vtable = start - in.getInt(start);
            int entry = 4 + 2 * slot;
            int offset = entry < in.getShort(vtable) ? in.getShort(vtable + entry) : 0;
            return offset == 0 ? 0 : start + offset;
        }

        int integer(int slot) {
            int cell = cell(slot);
            return cell == 0 ? 0 : in.getInt(cell);
        }

        private int target(int slot) {
            int cell = cell(slot);
            return cell == 0 ? 0 : cell + in.getInt(cell);
        }

        String text(int slot) {
            int at = target(slot);
            return at == 0 ? "null" : new String(in.array(), at + 4, in.getInt(at), StandardCharsets.UTF_8);
        }

        Table table(int slot) {
            return new Table(in, target(slot));
        }

        Map<String, float[]> weights(int slot) {
            Map<String, float[]> weights = new LinkedHashMap<>();
            int vector = target(slot);
            int count = vector == 0 ? 0 : in.getInt(vector);
            for (int i = 0; i < count; i++) {
                int pointer = vector + 4 + 4 * i;
                Table each = new Table(in, pointer + in.getInt(pointer));
                int at = each.target(1);
                float[] values = new float[in.getInt(at)];
                for (int j = 0; j < values.length; j++) {
                    values[j] = in.getFloat(at + 4 + 4 * j);
                }
                weights.put(each.text(0), values);
            }
            return weights;
        }
    }
}
