package edgeseg.core;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * A strict JSON reader (RFC 8259), because org.json is part of Android but not of a JDK, where this is tested.
 *
 * <p>Objects become Map, arrays List, numbers Double; then String, Boolean and null. A key that comes twice is refused,
 * as is anything after the value.
 */
public final class Json {
    private static final int DEEPEST = 64;

    private final String text;
    private int at;

    private Json(String text) {
        this.text = text;
    }

    /** @throws IllegalArgumentException not JSON: what stands there, and at which character */
    public static Object parse(String text) {
        Json reader = new Json(text);
        Object value = reader.value(0);
        reader.skipBlanks();
        if (reader.at < text.length()) throw reader.unexpected("the end");
        return value;
    }

    private Object value(int depth) {
        if (depth > DEEPEST) throw unexpected("at most " + DEEPEST + " values inside each other");
        skipBlanks();
        switch (peek()) {
            case '{': return object(depth);
            case '[': return array(depth);
            case '"': return string();
            case 't': return word("true", true);
            case 'f': return word("false", false);
            case 'n': return word("null", null);
            default: return number();
        }
    }

    private Map<String, Object> object(int depth) {
        Map<String, Object> members = new LinkedHashMap<>();
        expect('{');
        skipBlanks();
        if (take('}')) return members;
        do {
            skipBlanks();
            String key = string();
            skipBlanks();
            expect(':');
            if (members.containsKey(key)) throw unexpected("the key " + key + " once");
            members.put(key, value(depth + 1));
            skipBlanks();
        } while (take(','));
        expect('}');
        return members;
    }

    private List<Object> array(int depth) {
        List<Object> items = new ArrayList<>();
        expect('[');
        skipBlanks();
        if (take(']')) return items;
        do {
            items.add(value(depth + 1));
            skipBlanks();
        } while (take(','));
        expect(']');
        return items;
    }

    private String string() {
        StringBuilder result = new StringBuilder();
        expect('"');
        while (!take('"')) {
            char c = peek();
            if (c < ' ') throw unexpected("a character of a string");
            at++;
            result.append(c == '\\' ? escaped() : c);
        }
        return result.toString();
    }

    private char escaped() {
        char c = peek();
        int known = "\"\\/bfnrt".indexOf(c);
        if (known < 0 && c != 'u') throw unexpected("an escape");
        at++;
        if (known >= 0) return "\"\\/\b\f\n\r\t".charAt(known);
        int code = 0;
        for (int digits = 0; digits < 4; digits++, at++) {
            int digit = "0123456789abcdef".indexOf(Character.toLowerCase(peek()));
            if (digit < 0) throw unexpected("four hexadecimal digits");
            code = code * 16 + digit;
        }
        return (char) code;
    }

    private Double number() {
        int start = at;
        take('-');
        if (!take('0')) digits();
        if (take('.')) digits();
        if (take('e') || take('E')) {
            if (!take('+')) take('-');
            digits();
        }
        return Double.valueOf(text.substring(start, at));
    }

    private void digits() {
        int start = at;
        while (peek() >= '0' && peek() <= '9') at++;
        if (at == start) throw unexpected("a JSON value");
    }

    private Object word(String word, Object value) {
        if (!text.startsWith(word, at)) throw unexpected("a JSON value");
        at += word.length();
        return value;
    }

    private void skipBlanks() {
        while (peek() == ' ' || peek() == '\n' || peek() == '\r' || peek() == '\t') at++;
    }

    private boolean take(char c) {
        if (at >= text.length() || text.charAt(at) != c) return false;
        at++;
        return true;
    }

    private void expect(char c) {
        if (!take(c)) throw unexpected("'" + c + "'");
    }

    /** The next character; NUL, which JSON has nowhere, at the end. */
    private char peek() {
        return at < text.length() ? text.charAt(at) : '\0';
    }

    private IllegalArgumentException unexpected(String expected) {
        String found = at < text.length() ? "'" + text.charAt(at) + "'" : "the end";
        return new IllegalArgumentException(found + " stands at character " + at + "; expected " + expected);
    }
}
